"""Progress and results as a person sees them."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nakt_fed.cli import display as module
from nakt_fed.cli.display import Display
from nakt_fed.cli.results import print_results


def plain(width: int = 80) -> Console:
    return Console(file=StringIO(), width=width, highlight=False, emoji=False)


def terminal(width: int = 80) -> Console:
    return Console(file=StringIO(), width=width, force_terminal=True, color_system=None, highlight=False, emoji=False)


def text(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def epoch(number: int, of: int = 20, who: str = "teacher:ann", score: float | None = 0.512) -> dict[str, Any]:
    left = 3.0 * (of - number)
    return {
        "kind": "epoch", "who": who, "epoch": number, "epochs": of, "loss": 1.2345, "validation_dice": score, "seconds_left": left,
    }  # fmt: skip


def chunk(
    number: int, of: int = 4, site: str = "ann", name: str = "transferal", request: str = "masks"
) -> dict[str, Any]:
    rest = {"pictures_per_second": 99.6, "bytes": 1500 * number}
    return {"kind": "site", "site": site, "set": name, "request": request, "chunks": number, "of": of, **rest}


def begins(name: str) -> dict[str, Any]:
    return {"kind": "stage", "name": name, "state": "begins"}


def done(name: str, seconds: float) -> dict[str, Any]:
    return {"kind": "stage", "name": name, "state": "done", "seconds": seconds}


def shown(console: Console, *events: dict[str, Any]) -> str:
    with Display(console) as display:
        for event in events:
            display(event)
    return text(console)


def test_without_a_terminal_there_are_plain_lines() -> None:
    events = [begins("teachers"), *(epoch(number) for number in range(1, 21)), done("teachers", 62.2)]
    assert shown(plain(), *events).splitlines() == [
        "› teachers: each site trains or loads its own",
        "  teacher:ann  epoch 1/20  loss 1.234, val. Dice 51.2 %, 57 s left",
        "  teacher:ann  epoch 4/20  loss 1.234, val. Dice 51.2 %, 48 s left",
        "  teacher:ann  epoch 8/20  loss 1.234, val. Dice 51.2 %, 36 s left",
        "  teacher:ann  epoch 12/20  loss 1.234, val. Dice 51.2 %, 24 s left",
        "  teacher:ann  epoch 16/20  loss 1.234, val. Dice 51.2 %, 12 s left",
        "  teacher:ann  epoch 20/20  loss 1.234, val. Dice 51.2 %",
        "  done in 62 s",
    ]


def test_chunks_of_test_sets_make_no_lines() -> None:
    sent = [chunk(number, request="pictures") for number in (1, 2, 3, 4)]
    answered = [chunk(number) for number in (1, 2, 3, 4)]
    test = [chunk(number, 2, name="test-outside", request=kind) for kind in ("pictures", "masks") for number in (1, 2)]
    assert shown(plain(), *sent, *answered, *test).splitlines() == [
        "  ann  chunk 4/4  pictures out, 100 pictures/s, 6.0 kB",
        "  ann  chunk 1/4  masks back, 100 pictures/s, 1.5 kB",
        "  ann  chunk 2/4  masks back, 100 pictures/s, 3.0 kB",
        "  ann  chunk 3/4  masks back, 100 pictures/s, 4.5 kB",
        "  ann  chunk 4/4  masks back, 100 pictures/s, 6.0 kB",
    ]


def test_a_line_appears_when_it_was_silent_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with Display(plain()) as display:
        for number in range(1, 51):
            display(epoch(number, 500))
            now[0] += 10
    numbers = [line.split("epoch ")[1].split("/")[0] for line in text(display.console).splitlines()]
    assert numbers == ["1", "8", "15", "22", "29", "36", "43", "50"]


def test_warnings_notes_short_stages_and_unknown_events() -> None:
    warning = {"kind": "warning", "message": "site ann is set aside: [bold]:x:"}
    note = {"kind": "note", "message": "Ray starts"}
    events = begins("fusion"), warning, {"kind": "weather"}, note, done("fusion", 0.4)
    assert shown(plain(), *events).splitlines() == [
        "› fusion and filter",
        "! site ann is set aside: [bold]:x:",
        "  Ray starts",
    ]


def test_an_epoch_without_validation() -> None:
    assert shown(plain(), epoch(1, 1, "student", None)) == "  student  epoch 1/1  loss 1.234\n"


@pytest.mark.parametrize("width", [80, 120])
def test_on_a_terminal_each_training_has_one_line(width: int) -> None:
    console = terminal(width)
    with Display(console) as display:
        assert display.live
        for who in ("teacher:ann", "teacher:bob"):
            display(epoch(3, who=who))
        display(chunk(2, site="bob"))
        paper = plain(width)
        paper.print(display.bars.make_tasks_table(display.bars.tasks))
    lines = text(paper).splitlines()
    assert len(lines) == 3
    assert all(len(line.rstrip()) <= width - 4 for line in lines), "room for the ^C that a terminal echoes"
    for line, words in zip(lines, (["teacher:ann", "epoch 3/20"], ["teacher:bob"], ["bob", "chunk 2/4"]), strict=True):
        assert all(word in line for word in words)
    assert "loss 1.234, val. Dice 51.2 %, 51 s left" in lines[0]
    assert "masks back, 100 pictures/s, 3.0 kB" in lines[2]


def test_on_a_terminal_what_has_ended_stays_as_a_line() -> None:
    events = [
        begins("teachers"),
        epoch(19),
        epoch(20),
        done("teachers", 62),
        begins("masks"),
        chunk(4),
        chunk(1, 1, name="test-x"),
    ]
    printed = shown(terminal(), *events).splitlines()
    lines = [line.split("\x1b[2K")[-1].rstrip() for line in printed]  # without what moves the cursor
    assert "  teacher:ann  epoch 20/20  loss 1.234, val. Dice 51.2 %" in lines
    assert "  ann  chunk 4/4  masks back, 100 pictures/s, 6.0 kB" in lines
    assert not any("test set" in line and "━" not in line for line in lines)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    tests = {"breast-busbra-logiq7": (0.681, 0.1), "breast-busbra-logiq5": (0.5, 0.05), "x": (1.0, 0.0)}
    row = {name: {"mean": mean, "std": std} for name, (mean, std) in tests.items()}
    results = {
        "dice": {"teacher:breast-busbra-logiq7": row, "ensemble": row, "student": row},
        "transferal": {"images": 60, "kept": 58},
        "bytes": {"back": 13_200},
        "set_aside": {"ann": "bad_answer; check [its] teacher"},
    }
    (tmp_path / "results.json").write_text(json.dumps(results))
    return tmp_path


def test_results_in_a_log_have_no_edge(run_folder: Path) -> None:
    console = plain(40)
    print_results(run_folder, console)
    lines = [line.replace("\u00a0", " ") for line in text(console).splitlines()]
    assert lines[1] == "Dice on the test sets, mean ± std over pictures, in %"
    assert lines[2].split() == ["breast-busbra-logiq7", "breast-busbra-logiq5", "x", "mean"]
    assert lines[-4].split("  ")[0] == "student"
    assert [cell.strip() for cell in lines[-4].split("  ") if cell][1:] == [
        "68.1 ± 10.0",
        "50.0 ± 5.0",
        "100.0 ± 0.0",
        "72.7",
    ]
    assert lines[-3:] == [
        "! without site ann: bad_answer; check [its] teacher",
        "58 of 60 transferal pictures kept; 13.2 kB of masks came back",
        f"report: {run_folder / 'report.html'}",
    ]


def test_results_on_a_narrow_terminal_keep_their_numbers_whole(run_folder: Path) -> None:
    console = terminal(80)
    print_results(run_folder, console)
    lines = text(console).replace("\u00a0", " ").splitlines()
    assert any("68.1 ± 10.0" in line and "50.0 ± 5.0" in line and "72.7" in line for line in lines)
    assert max(map(len, lines[:-1])) <= 80


def test_results_without_a_test_set(run_folder: Path) -> None:
    results = json.loads((run_folder / "results.json").read_text()) | {"dice": {}, "set_aside": {}}
    (run_folder / "results.json").write_text(json.dumps(results))
    console = plain()
    print_results(run_folder, console)
    assert text(console).startswith("58 of 60 transferal pictures kept")
