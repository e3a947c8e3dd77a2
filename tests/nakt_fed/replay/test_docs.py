"""The page for the method researcher says what works."""

import re
from pathlib import Path

import pytest

from nakt_fed.replay.sweep_file import load_sweep, settings_of
from nakt_fed.weightings import BUILT_IN, find
from tests.command import nakt
from tests.tiny import whole_study

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "research.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_every_scheme_is_named_with_its_needs_and_options() -> None:
    rows = {
        row[0].strip("` "): row for row in (line.split("|")[1:-1] for line in PAGE.splitlines() if line[:3] == "| `")
    }
    for name in BUILT_IN:
        scheme, (_, _, needs, options) = find(name), rows[name]
        assert ("sums" in needs) == (scheme.needs == "sums")
        assert ("soft" in needs) == scheme.soft
        assert re.findall(r"`(\w+)` ([\d.]+)", options) == [(key, str(value)) for key, value in scheme.options.items()]


def test_the_example_of_ones_own_weighting(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = blocks("python")[0]
    assert len(own.strip().splitlines()) <= 15
    (tmp_path / "my_schemes.py").write_text(own)
    monkeypatch.syspath_prepend(tmp_path)
    [command] = [line for block in blocks("bash") for line in block.splitlines() if "my_schemes" in line]
    arguments = command.removeprefix("PYTHONPATH=. nakt ").replace("RUN", str(run)).split()
    outcome = nakt(*arguments)
    assert outcome.code == 0, outcome.err
    assert (run / "fused" / "mine" / "filter.csv").exists()


def test_the_example_from_python(run: Path) -> None:
    code = blocks("python")[1].replace('"RUN"', repr(str(run)))
    known: dict[str, object] = {}
    exec(code, known)
    assert known["pseudo"].shape == known["chunk"]["ann"].shape  # type: ignore[attr-defined, index]


def test_the_example_of_a_sweep(tmp_path: Path) -> None:
    [text] = blocks("toml")
    (tmp_path / "sweep.toml").write_text(text)
    cells = list(settings_of(load_sweep(tmp_path / "sweep.toml"), whole_study(tmp_path)))
    assert len(cells) == 3 * 2 * (1 + 2)


def test_the_students_that_are_told_of_in_the_results(tmp_path: Path) -> None:
    study = whole_study(tmp_path)
    names = [setting.student.name for setting in settings_of(load_sweep(ROOT / "studies" / "students.toml"), study)]
    for setting in settings_of(load_sweep(ROOT / "studies" / "students.toml"), study):
        setting.student.spec(study)
    assert {"study", "12-plain", "minimum-soft", "no-blends"} <= set(names)
