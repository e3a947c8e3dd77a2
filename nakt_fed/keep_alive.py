"""Long-lived programs that are started again when they die, and end with whoever keeps them."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nakt_fed.processes import Process, end_guarded, start_guarded

LONGEST_PAUSE = 60.0
LAST_BYTES = 4096
STEADY = 60.0  # seconds after which a program counts as running well, so that its next pause is short again


@dataclass
class Kept:
    """A program: its command, where its output is appended, how long to wait after its death (doubled each time in a row)."""

    name: str
    command: list[str]
    log: Path
    env: Mapping[str, str]
    cwd: Path
    pause: float = 1.0
    process: Process | None = None
    started: float = 0.0
    deaths: int = 0
    start_at: float = field(default=0.0)

    def start(self) -> None:
        with self.log.open("ab") as sink:
            self.process = start_guarded(self.command, env=self.env, sink=sink, cwd=self.cwd)
        self.started = time.monotonic()

    def died(self) -> int:
        """Take note of the death; returns the exit code."""
        assert self.process is not None
        code = self.process.wait()
        end_guarded(self.process)
        self.process = None
        self.deaths = 1 if time.monotonic() - self.started > STEADY else self.deaths + 1
        self.start_at = time.monotonic() + min(max(LONGEST_PAUSE, self.pause), self.pause * 2 ** (self.deaths - 1))
        return code


Say = Callable[[str], None]


@contextmanager
def kept_alive(programs: list[Kept], say: Say) -> Iterator[Callable[[], None]]:
    """Start the programs in this order; the function that is given looks after them and has to be called now and then.

    When the block is left, also by Ctrl-C, they are ended in the opposite order, with all that they started.
    """
    try:
        for program in programs:
            program.start()
        yield lambda: look_after(programs, say)
    finally:
        for program in reversed(programs):
            if program.process:
                end_guarded(program.process)


def look_after(programs: list[Kept], say: Say) -> None:
    """Start again what has died, after its pause."""
    for program in programs:
        if program.process and program.process.poll() is not None:
            how = words(program.died())
            wait = program.start_at - time.monotonic()
            say(f"{program.name} {how}; it is started again in {wait:.0f} s (its log: {program.log})")
            if reason := last_error(program.log):
                say(reason)
        elif program.process is None and time.monotonic() >= program.start_at:
            program.start()
            say(f"{program.name} started again")


def last_error(log: Path) -> str:
    """The error with which a program of ours has ended, which is then its last line; empty: it ended otherwise."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
        last = file.read().decode(errors="replace").rstrip().rpartition("\n")[2]
    return last if last.startswith("error: ") else ""


def words(code: int) -> str:
    """An exit code in words; 128 + n stands for signal n."""
    return f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with code {code}"
