"""What a child process that works with Ray says when it fails: one reason, the last words of its log."""

import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from nakt_fed.errors import NaktError

REASON = "nakt-fed: "
LAST_LINES = 15


def told(work: Callable[[], None], what: str) -> int:
    """In the child: do the work and leave the reason of a failure as the last words. Returns the exit code.

    Args:
        what: what fails, as in "the student's training failed: ...".
    """
    try:
        work()
    except NaktError as error:
        print(f"{REASON}{error}", file=sys.stderr)
        return 1
    except Exception as error:
        traceback.print_exc()
        print(f"{REASON}{what} failed: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def failure(code: int, log: Path, what: str, remedy: str) -> str:
    """In the parent: the reason that the child left, or how it ended and the last lines of its log."""
    text = log.read_text(encoding="utf-8", errors="replace")
    _, found, reason = text.rpartition(REASON)
    if found:
        return reason.strip()
    how = f"was ended by {signal.Signals(code - 128).name}" if code > 128 else f"ended with code {code}"
    last = "\n".join(text.splitlines()[-LAST_LINES:])
    return f"{what} {how}; {remedy}. The end of {log}:\n{last}"
