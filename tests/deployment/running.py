"""Commands of nakt that stay, as processes: what they said, and how to kill their parts."""

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nakt_fed.processes import below
from simulation import loopback
from simulation.loopback import wait_for
from tests.watch import command


@dataclass
class Started(loopback.Started):
    """A command of nakt that stays, with what it said, and its parts."""

    def find(self, words: str) -> list[int]:
        """The processes below it with these words in their command; guards, which carry the same words, left out."""
        ours = [pid for pid in below(self.process.pid) if words in command(pid)]
        return [pid for pid in ours if "processes.py" not in command(pid)]

    def kill(self, words: str, seconds: float = 30) -> None:
        """SIGKILL to the one process with these words."""
        for pid in wait_for(lambda: self.find(words), seconds, words):
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda pid=pid: not command(pid), seconds, "its end")  # type: ignore[misc]

    def signal_all(self, number: int) -> None:
        for pid in [self.process.pid, *below(self.process.pid)]:
            os.kill(pid, number)


@dataclass
class Running(Started):
    """`nakt run`; its run folder."""

    @property
    def folder(self) -> Path:
        def told() -> list[str]:
            assert self.process.poll() is None or "\nrun /" in self.said, self.said
            return [line for line in self.said.splitlines() if line.startswith("run /")]

        return Path(wait_for(told, 60, "the run's folder")[0].removeprefix("run "))

    def answered(self) -> list[tuple[str, str, int]]:
        return answered(self.folder)

    def events(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in lines(self.folder / "events.jsonl") if event["kind"] == kind]

    def wait_for_answers(self, count: int, seconds: float = 120) -> None:
        def come() -> bool:
            assert self.process.poll() is None, self.said[-3000:]
            return len(self.answered()) >= count

        wait_for(come, seconds, f"{count} answers, {self.said[-2000:]}")

    def wait_for_fusion(self, seconds: float = 120) -> None:
        def come() -> bool:
            stages = [(event["name"], event["state"]) for event in self.events("stage")]
            assert self.process.poll() is None or ("fusion", "done") in stages, self.said[-3000:]
            return ("fusion", "done") in stages

        wait_for(come, seconds, "the fusion")

    def end(self, how: int = signal.SIGINT) -> int:
        self.process.send_signal(how)
        return self.process.wait(60)


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file of JSON lines."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"}\n")]


def answered(run: Path) -> list[tuple[str, str, int]]:
    """(site, set, chunk) of every good answer with masks, in the order in which they came."""
    rows = [row for row in lines(run / "ledger.jsonl") if (row["kind"], row["outcome"]) == ("masks", "ok")]
    return [(row["site"], row["set"], row["chunk"]) for row in rows]
