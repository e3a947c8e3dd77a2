"""A small disk of its own for one folder, which a test can fill: a tmpfs, which only root may mount."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

MOST = 2**20  # bytes written at once


@dataclass
class Disk:
    """Mounted at `folder`."""

    folder: Path

    def fill(self, leave: int = 0) -> None:
        """To the last page, or with so many bytes left; others may write meanwhile."""
        with suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as file:
            while (room := shutil.disk_usage(self.folder).free - leave) > 0:
                file.write(bytes(min(room, MOST)))

    def free(self) -> None:
        (self.folder / "ballast").unlink()


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """The folder is made if need be. Skips the test where mounting is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "nakt-test", str(folder)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command here")
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
