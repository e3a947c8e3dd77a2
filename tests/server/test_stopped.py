"""A run's process that is told to end, or that is killed: `nakt run` knows at once, Flower only after a minute."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nakt_fed.errors import RunError
from nakt_fed.events import follow
from nakt_fed.status.files import is_held
from server import watch as watch_module
from server.kit import Kit
from server.stopped import FILE, stop_process
from server.watch import Watch

ROOT = Path(__file__).parents[2]
WORK = """
import sys, time
from pathlib import Path
from nakt_fed.locks import only_one
from server.stopped import obey_stop
with only_one(Path(sys.argv[1])):
    obey_stop(Path(sys.argv[1]))
    print("works", flush=True)
    time.sleep(60)
"""
pytestmark = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a file")


class Flower:
    """Says that the run goes on."""

    kit = Kit(Path("/no such kit"))

    def __init__(self, away: bool = False) -> None:
        self.away, self.stopped = away, list[int]()

    def status(self, run_id: int) -> str:
        return "running"

    def stop(self, run_id: int) -> None:
        self.stopped.append(run_id)
        if self.away:
            raise RunError("the SuperLink does not answer")


@pytest.fixture
def work(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that works in the run folder."""
    words = [sys.executable, "-c", WORK, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        assert process.stdout.readline() == "works\n"
        yield process
        process.kill()


def test_a_process_that_is_told_to_end_ends_and_lets_the_folder_go(
    tmp_path: Path, work: "subprocess.Popen[str]"
) -> None:
    stop_process(tmp_path)
    assert not is_held(tmp_path)
    assert work.wait(5) == 1
    assert not (tmp_path / FILE).exists()


def test_what_was_told_to_an_earlier_process_is_forgotten(tmp_path: Path) -> None:
    stop_process(tmp_path)  # nobody works there
    words = [sys.executable, "-c", WORK, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        assert process.stdout.readline() == "works\n"
        time.sleep(0.5)
        assert process.poll() is None
        process.kill()


@pytest.mark.parametrize("away", [False, True])
def test_a_killed_process_is_noticed_and_the_run_ended_in_flower(
    tmp_path: Path, work: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch, away: bool
) -> None:
    monkeypatch.setattr(watch_module, "ALONE_SECONDS", 0.2)
    flower = Flower(away)
    watch = Watch(flower, 5, tmp_path)  # type: ignore[arg-type]
    assert not watch.over()
    work.kill()
    work.wait()
    end = time.monotonic() + 5
    while not watch.over():
        assert time.monotonic() < end
    assert (watch.status, flower.stopped) == ("finished:killed", [5])


@pytest.mark.parametrize(("word", "status"), [("error", "finished:killed"), ("done", "finished:completed")])
def test_a_run_that_said_its_last_word_is_over_also_when_flower_cannot_note_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str, status: str
) -> None:
    """Its database's disk is full."""
    monkeypatch.setattr(watch_module, "TOLD_SECONDS", 0.2)
    (tmp_path / ".lock").touch()
    watch = Watch(Flower(), 5, tmp_path)  # type: ignore[arg-type]
    watch.saw(word)
    assert not watch.over()
    time.sleep(0.3)
    assert watch.over()
    assert watch.status == status


def test_a_run_that_nobody_works_on_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "ALONE_SECONDS", 0.0)
    (tmp_path / ".lock").touch()
    assert not Watch(Flower(), 5, tmp_path).over()  # type: ignore[arg-type]


def notes(run: Path) -> list[str]:
    return [event["message"] for event in follow(run / "events.jsonl", lambda: True)]


def test_while_nothing_has_begun_it_says_so_now_and_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "WORD_SECONDS", 0.05)
    watch = Watch(Flower(), 5, tmp_path)  # type: ignore[arg-type]
    watch.saw("note")  # its own
    for _ in range(4):
        assert not watch.over()
        time.sleep(0.06)
    said = notes(tmp_path)
    assert 2 <= len(said) <= 4
    assert all("the run has not begun" in words for words in said)
    watch.saw("start")
    time.sleep(0.06)
    assert not watch.over()
    assert notes(tmp_path) == said


def test_why_it_ended_when_it_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(Flower(), 5, tmp_path)  # type: ignore[arg-type]
    watch.status = "finished:failed"
    assert "ended before it had begun (in Flower: 'finished:failed'); see the log x.log" in watch.why(Path("x.log"))
    watch.saw("stage")
    assert watch.why(Path("x.log")) == "the run ended in Flower as 'finished:failed'; see the log x.log"
    assert not watch.full_disk()
    monkeypatch.setattr(watch_module, "LEAST_FREE", 2**62)
    assert watch.full_disk() == f"the disk is full, the run is in {tmp_path}; free some space, then resume"
