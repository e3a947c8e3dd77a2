"""What every command that works in a run folder does when it is stopped or fails: one line, and how to go on."""

import logging
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from nakt_fed.app_folder import STOPS
from nakt_fed.cli.words import os_error, plain_error
from nakt_fed.errors import NaktError


def stop_by_signal() -> None:
    """Ctrl-C and SIGTERM end the work as KeyboardInterrupt, unless they are ignored, as in a shell's background job."""
    for stop in STOPS:
        if signal.getsignal(stop) != signal.SIG_IGN:
            signal.signal(stop, _interrupt)


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def guarded_work(
    run: Path, work: Callable[[], None], again: list[str], *, new: bool, more: Callable[[str], str] = lambda message: ""
) -> int:
    """Do the work; whatever stops it, say it in a line and how to go on.

    Args:
        again: the command that goes on.
        new: the run folder was made a moment ago; it is removed when nothing was done in it.
        more: words to add to an error's message.

    Returns:
        the exit code: 0 done, 1 the study or the run failed, 130 stopped.
    """
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # `nakt run` has blocked them while this was loaded
        work()
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # zarr's tasks that were cut
        print(f"\nstopped; go on with: {shlex.join(again)}", file=sys.stderr, flush=True)
        return 130
    except NaktError as error:
        plain_error(f"{error}{more(str(error))}")
    except OSError as error:
        plain_error(os_error(error))
    except Exception:
        traceback.print_exc()
        plain_error("this is a fault of nakt-fed; please report it with the lines above")
    else:
        return 0
    if new and not (run / "events.jsonl").exists():
        shutil.rmtree(run)  # nothing was done in it
    else:
        words = f"what was done is kept; when mended, go on with: {shlex.join(again)}"
        print(words, file=sys.stderr, flush=True)
    return 1
