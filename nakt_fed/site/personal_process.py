"""A student is fine-tuned in a process of its own, so that the teacher answers meanwhile.

Whichever is killed, the training goes on from its last epoch when it is asked for again; likewise where the disk was full.
"""

import errno
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

from nakt_fed.checkpoint import is_saved
from nakt_fed.errors import NaktError, RunError, is_disk_full
from nakt_fed.processes import end_guarded, start_guarded
from nakt_fed.site.personal_job import Job
from nakt_fed.site.personal_training import train_here
from nakt_fed.site_data import PrivateData, private_data

NICE = 5  # the teacher's answers come first
DISK_FULL = 75  # exit code of the process


class Beside:
    """A `Trainer` that trains in a process of its own, one training at a time; it ends when this process does.

    Args:
        expires: the policy's last day, with which a training ends too.
    """

    def __init__(self, expires: date | None = None) -> None:
        self.expires = expires
        self.folder: Path | None = None
        self.guard: subprocess.Popen[bytes] | None = None

    def __call__(self, job: Job, data: PrivateData) -> str:
        """Start it, or look how far it is.

        Raises:
            RunError: it failed; the next call starts it again.
            OSError: the disk is full; the next call goes on from its last epoch.
        """
        code = self.guard.poll() if self.guard else 0
        if self.guard and code is None:
            return _progress(job) if self.folder == job.folder else "another student is fine-tuned here first"
        asked = self.folder
        self.end()
        if asked == job.folder and is_saved(job.weights):
            return ""
        if asked == job.folder and code == DISK_FULL:
            raise OSError(
                errno.ENOSPC, "no room for what the fine-tuning keeps; free some, it goes on when it is asked again"
            )
        if asked == job.folder and job.log.exists():  # else it was withdrawn, and is wanted again
            raise RunError(f"fine-tuning the student failed, exit code {code}: {_last_words(job.log)}")
        self.folder, self.guard = job.folder, _start(job.model_copy(update={"expires": self.expires}))
        return _progress(job)

    def end(self) -> None:
        """End the training, if there is one; it goes on from its last epoch when it is asked for again."""
        if self.guard:
            end_guarded(self.guard)
        self.folder = self.guard = None


def _start(job: Job) -> subprocess.Popen[bytes]:
    path = job.folder / "job.json"
    path.write_text(job.model_dump_json(), encoding="utf-8")
    with job.log.open("wb") as sink:
        return start_guarded([sys.executable, "-P", "-m", __name__, str(path)], env=os.environ, sink=sink)


def _progress(job: Job) -> str:
    """By the lines of history.csv, of which the first is its head."""
    try:
        done = job.history.read_text(encoding="utf-8").count("\n") - 1
    except OSError:
        done = 0
    return f"epoch {max(0, done)} of {job.order.recipe.epochs} is done"


def _last_words(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace").strip()[-2000:] or f"{log} is empty"


def main(path: Path) -> int:
    """The process of its own."""
    job = Job.model_validate_json(path.read_bytes())
    os.nice(NICE)
    try:
        data = private_data(job.site, job.image_size, job.seed)
        if not job.is_about(data):  # its test share may be another than the one that the service measures on
            raise RunError("the private pictures are others than when the service began; start the service again")
        train_here(job, data)
    except NaktError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        if not is_disk_full(error):
            raise
        return DISK_FULL
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
