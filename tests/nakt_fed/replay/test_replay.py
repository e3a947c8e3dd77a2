"""A finished run fused again and swept, from its stores alone."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.errors import RunError, StudyError
from nakt_fed.filtering import read_filter
from nakt_fed.replay.cells import work
from nakt_fed.replay.pictures import wanted
from nakt_fed.replay.rows import mean_table, row_of, write_rows
from nakt_fed.replay.stored import StoredRun
from nakt_fed.replay.sweep_file import Setting, Variant, load_sweep
from nakt_fed.statistics.rows import block, read_rows
from nakt_fed.store import open_group
from nakt_fed.study.file import dump_study, load_federated
from simulation.cells import Cell, Made, Task, with_needs
from simulation.sweep import cells_of
from tests.command import nakt


def stack(place: Path, name: str) -> np.ndarray:
    return np.asarray(open_group(place / "masks.zarr")[name][:])  # type: ignore[index]


def test_the_runs_own_weighting_gives_the_runs_own_masks(run: Path) -> None:
    outcome = nakt("fuse", run, "--weighting", "uniform")
    assert outcome.code == 0, outcome.err
    out = run / "fused" / "uniform"
    np.testing.assert_array_equal(stack(out, "pseudo"), stack(run, "pseudo"))
    assert (out / "filter.csv").read_bytes() == (run / "filter.csv").read_bytes()
    for name in ("images", "masks"):
        ours, theirs = (np.asarray(open_group(place / "pseudo.zarr")[name][:]) for place in (out, run))  # type: ignore[index]
        np.testing.assert_array_equal(ours, theirs)
    told, results = (json.loads((run / name).read_text()) for name in ("fused/uniform/fusion.json", "results.json"))
    row = results["dice"]["ensemble"]["outside"]
    assert told["per_image"] == {f"outside/{i}": value for i, value in row["per_image"].items()}
    assert told["weights"] == results["weights"]
    assert f"Dice of the pseudo masks, outside: {100 * row['mean']:.2f} %" in outcome.out


def test_another_weighting_changes_nothing_of_the_run(run: Path) -> None:
    before = stack(run, "pseudo"), (run / "filter.csv").read_bytes()
    outcome = nakt("fuse", run, "--weighting", "era", "--option", "temperature=1.0", "--name", "soft")
    assert outcome.code == 0, outcome.err
    assert json.loads((run / "fused/soft/fusion.json").read_text())["fusion"]["options"] == {"temperature": 1.0}
    assert not np.array_equal(stack(run / "fused/soft", "pseudo"), before[0])
    np.testing.assert_array_equal(stack(run, "pseudo"), before[0])
    assert (run / "filter.csv").read_bytes() == before[1]


def test_what_was_seen_is_not_measured(run: Path) -> None:
    outcome = nakt("fuse", run, "--weighting", "learned", "--annotated", "outside")
    assert outcome.code == 0, outcome.err
    assert "weights: ann" in outcome.out
    assert json.loads((run / "fused/learned/fusion.json").read_text())["per_image"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weighting", "unifrm"], "did you mean 'uniform'?"),
        (["--weighting", "median", "--option", "trim=0.1"], "no such option"),
        (["--weighting", "fixed", "--weight", "ann=1"], "needs a weight for each of ['ann', 'bob'], got ['ann']"),
        (["--weighting", "era", "--option", "temperature"], "write KEY=VALUE"),
        (["--weighting", "uniform", "--name", "../x"], "one folder's name"),
        (["--weighting", "uniform", "--weight", "ann=1"], 'fusion.weights are for fusion.weighting = "fixed"'),
        (["--weighting", "uniform", "--annotated", "nowhere"], "has to name one of the test sets ['outside']"),
    ],
)
def test_mistakes_are_told_plainly(run: Path, arguments: list[str], message: str) -> None:
    outcome = nakt("fuse", run, *arguments)
    assert outcome.code in (1, 2)
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_an_unfinished_run_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not the folder of a run"):
        StoredRun(tmp_path)
    shutil.copy(run / "study.toml", tmp_path)
    (tmp_path / "events.jsonl").touch()
    with pytest.raises(
        RunError, match=r"sites have not answered everything in .*; go on with `nakt run --resume [^ ]*`"
    ):
        StoredRun(tmp_path)


def test_a_run_between_hospitals_goes_on_with_its_kit(run: Path, tmp_path: Path) -> None:
    (tmp_path / "study.toml").write_text(dump_study(load_federated(run / "study.toml")))
    (tmp_path / "events.jsonl").touch()
    for command in (["fuse", tmp_path, "--weighting", "uniform"], ["report", tmp_path]):
        outcome = nakt(*command)
        assert outcome.code == 1
        assert f"go on with `nakt run --resume {tmp_path} --federation KIT`" in outcome.err


OWN = """
import numpy as np
from nakt_fed.weightings.scheme import Answers, weighting

@weighting(needs="site_masks")
def darkest(x: Answers):
    return np.minimum.reduce(list(x.masks.values()))
"""

SWEEP = """
weighting = ["uniform", { weighting = "era", options = { temperature = 1.0 } }]
max_entropy = [8.0, BETA]
student = ["none", { name = "short", epochs = 1 }]
seeds = [1, 2]
"""


def carried_out(cells: Iterable[tuple[Cell, Setting]], place: Path) -> list[dict[str, Any]]:
    """The cells one after the other in this process: what `simulation.cells` does on Ray."""
    listed, done = list(cells), {}
    for key, cell in with_needs([cell for cell, _ in listed]).items():
        (place / key).mkdir(parents=True, exist_ok=True)
        needs = {role: done[need.key] for role, need in cell.needs.items()}
        task = Task(cell.name, dict(cell.what), dict(cell.where), place / key, needs, 1)
        done[key] = Made(json.loads(json.dumps(work(task))), place / key, 0.5)
    return [row_of(setting, done[cell.key].result, 0.5) for cell, setting in listed]


@pytest.mark.slow
def test_a_sweep_has_one_row_per_cell(run: Path, tmp_path: Path) -> None:
    entropies = [verdict.E or 0 for verdict in read_filter(run / "filter.csv")]
    beta = round(sorted(entropies)[3 * len(entropies) // 4], 2)
    (tmp_path / "sweep.toml").write_text(SWEEP.replace("BETA", str(beta)))
    sweep, stored = load_sweep(tmp_path / "sweep.toml"), StoredRun(run)
    cells = list(cells_of(stored, sweep))
    assert len(cells) == 2 * 2 * (1 + 2)  # weightings × thresholds × (no student, or two seeds)
    assert len(with_needs([cell for cell, _ in cells])) == len(cells) + 2, "masks are fused once per weighting"
    rows = carried_out(cells, tmp_path / "cells")
    write_rows(rows, tmp_path)
    students, masks = (read_rows(tmp_path / name) for name in ("students.json", "masks.json"))
    assert block(students).dice.shape == (4, 2, 3)  # cells, seeds, pictures of `outside`
    assert block(masks).dice.shape == (2, 1, 3), "the filter does not change the masks of test pictures"
    assert masks[0].settings == {"weighting": "uniform", "max_entropy": 8.0, "min_target_pixels": 0, "student": "none"}
    assert f"era(temperature=1.0) β={beta:g} short" in mean_table(rows)
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 13
    by_cell = {(row["cell"], row["seed"]): row for row in rows}
    high, low = (by_cell[f"uniform β={limit:g} none", 3] for limit in (8, beta))
    assert low["kept"] == sum(e <= beta for e in entropies) < high["kept"] == len(entropies)
    assert low["per_image"] == high["per_image"]
    students_made = [path.read_bytes() for path in (tmp_path / "cells").glob("*/student.safetensors")]
    trained_on = {(row["settings"]["weighting"], row["kept"], row["seed"]) for row in rows if "short" in row["cell"]}
    assert len(students_made) == 8
    assert len(set(students_made)) == len(trained_on) >= 6, "another student for other pictures, masks or seeds only"


def test_a_student_of_a_sweep_is_the_runs_own_student(run: Path, tmp_path: Path) -> None:
    """The same pictures, recipe, seed and threads: the same Dice on every picture."""
    (tmp_path / "sweep.toml").write_text('weighting = ["uniform"]\nstudent = ["study"]\n')
    [row] = carried_out(cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml")), tmp_path / "cells")
    results = json.loads((run / "results.json").read_text())
    expected = results["dice"]["student"]["outside"]["per_image"]
    assert row["per_image"] == {f"outside/{i}": value for i, value in expected.items()}
    [place] = [path for path in (tmp_path / "cells").iterdir() if (path / "student.safetensors").exists()]
    assert sorted(path.name for path in place.iterdir()) == [
        *("events.jsonl", "history.csv", "student.json", "student.safetensors")
    ]


def test_equal_steps_and_a_student_without_pictures(run: Path, tmp_path: Path) -> None:
    """Half of the 14 pictures are originals: twice the epochs."""
    text = 'weighting = ["uniform"]\nequal_steps = true\nstudent = [{ name = "v", epochs = 2, views = 0, originals = TRUE }]\n'
    (tmp_path / "sweep.toml").write_text(text.replace("TRUE", "true"))
    carried_out(cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml")), tmp_path / "cells")
    [history] = (tmp_path / "cells").glob("*/history.csv")
    assert len(history.read_text().splitlines()) == 1 + 4
    (tmp_path / "sweep.toml").write_text(text.replace("TRUE", "false"))
    with pytest.raises(StudyError, match="'v' would learn from 0 pictures; give it originals or views"):
        carried_out(cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml")), tmp_path / "cells")


def test_a_change_of_anything_that_decides_is_another_cell(run: Path, tmp_path: Path) -> None:
    def key(text: str) -> str:
        (tmp_path / "sweep.toml").write_text(text)
        [(cell, _)] = cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml"))
        return cell.key

    base = 'weighting = ["uniform"]\nstudent = ["study"]\n'
    other = [
        base.replace("uniform", "median"),
        base.replace('"study"', '{ name = "study", epochs = 9 }'),
        base.replace('"study"', '{ name = "study", views = 0 }'),
        *[base + line for line in ("max_entropy = [5.0]", "seeds = [9]", "threads = 2", "equal_steps = true")],
    ]
    assert len({key(text) for text in [base, *other]}) == 1 + len(other)
    assert key(base) == key(base)


def test_a_change_of_ones_own_code_is_another_cell(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sweep.toml").write_text('weighting = ["own_two:darkest"]\n')
    keys = set()
    for line in ("", "# mended\n"):
        (tmp_path / "own_two.py").write_text(OWN + line)
        [(cell, _)] = cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml"))
        keys.add(cell.key)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weighting = []", "weighting: List should have at least 1 item"),
        ('weighting = ["best"]', "unknown weighting 'best'"),
        ('weighting = ["uniform"]\nstudent = ["small"]', "'small' is no student; write \"none\""),
        ('weighting = ["uniform"]\nseed = [1]', "seed: unknown key; did you mean 'seeds'?"),
        (
            'weighting = ["uniform"]\nstudent = [{ name = "x", epoch = 2 }]',
            "epoch: unknown key; did you mean 'epochs'?",
        ),
        ('weighting = ["learned"]', "fusion.annotated has to name"),
        ('weighting = ["uniform"]\nannotated = "nowhere"', "fusion.annotated has to name one of the test sets"),
        ('weighting = ["uniform"]\nseeds = [1.0]', "seeds[0]: Input should be a whole number, without quotes or"),
        ('weighting = ["uniform"]\nmax_entropy = ["2"]', "max_entropy[0]: Input should be a number, without quotes"),
        ('weighting = ["uniform"]\nequal_steps = 1', "equal_steps: Input should be true or false, without quotes"),
        (
            'weighting = ["uniform"]\nstudent = [{ name = "x", epochs = true }]',
            "epochs: Input should be a whole number, without quotes or decimal point (got true)",
        ),
        ('weighting = ["uniform"]\nmax_entropy = [-4.0]', "max_entropy[0]: Input should be greater than or equal to 0"),
        ('weighting = ["uniform"]\nmin_target_pixels = [-4]', "min_target_pixels[0]: Input should be greater"),
        ('weighting = ["uniform"]\nseeds = [-1]', "seeds[0]: Input should be greater than or equal to 0"),
        ('weighting = ["uniform"]\nstudent = ["study"]\nseeds = [1, 1]', "'uniform' with seed 1 twice; list each"),
        ('weighting = ["uniform"]\nstudent = [{ name = "x" }, { name = "x", epochs = 1 }]', "'uniform x' with seed"),
        ('weighting = ["uniform"]\nstudent = [{ name = "none", epochs = 1 }]', '"none" is no student'),
        (
            'weighting = ["uniform"]\nstudent = [{ name = "x", network = "unett" }]',
            "student 'x' of the sweep: unknown network 'unett'; did you mean",
        ),
        ("weighting = [3]", "weighting[0]: Input should be a table, { key = value, … } (got 3)"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused_before_anything(run: Path, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "sweep.toml").write_text(text)
    with pytest.raises(StudyError) as caught:
        list(cells_of(StoredRun(run), load_sweep(tmp_path / "sweep.toml")))
    assert message in str(caught.value)


def test_a_variant_takes_originals_views_and_kinds(run: Path) -> None:
    manifest = StoredRun(run).transferal.manifest
    assert list(wanted(manifest, Variant(name="v"))) == list(range(len(manifest)))
    assert list(wanted(manifest, Variant(name="v", views=0))) == list(range(manifest.originals))
    assert min(wanted(manifest, Variant(name="v", originals=False))) == manifest.originals
    kinds = [list(wanted(manifest, Variant(name="v", originals=False, kinds=(k,)))) for k in ("plain", "blend", "box")]
    assert sorted(itertools.chain(*kinds)) == list(range(manifest.originals, len(manifest)))


@pytest.mark.slow
def test_a_sweep_on_ray_goes_on_and_is_compared(run: Path, tmp_path: Path) -> None:
    (tmp_path / "schemes.toml").write_text('weighting = ["uniform", "majority", "own_one:darkest"]\n')
    (tmp_path / "own_one.py").write_text(OWN)

    def swept() -> str:
        call = [sys.executable, "-c", "from nakt_fed.cli import main; main()", "sweep"]
        own = {**os.environ, "PYTHONPATH": str(tmp_path)}
        done = subprocess.run(
            [*call, str(run), str(tmp_path / "schemes.toml")], capture_output=True, text=True, env=own
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "0 of 6 cells are made already" in swept()
    rows = run / "sweeps" / "schemes" / "masks.json"
    before = rows.read_bytes()
    assert "to go" not in swept()
    assert rows.read_bytes() == before
    assert "majority" in nakt("compare", rows).out
