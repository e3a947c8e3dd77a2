"""The folder of an unfinished training: on a disk that all workers see, or behind a URL (s3://, gs://, file:// …)."""

import shutil
from pathlib import Path

from pyarrow import fs

LAST = "last.pt"


def is_url(place: str) -> bool:
    return "://" in place


def fetch(place: str, scratch: Path) -> Path:
    """The training's folder on this machine: the place itself, or a copy of it in `scratch`."""
    if not is_url(place):
        return Path(place)
    remote, root = fs.FileSystem.from_uri(place)
    for info in remote.get_file_info(fs.FileSelector(root, allow_not_found=True)):
        if info.is_file and not info.base_name.endswith(".part"):
            fs.copy_files(info.path, str(scratch / info.base_name), source_filesystem=remote)
    return scratch


def publish(folder: Path, place: str) -> None:
    """Bring the folder's files to the place, `last.pt` as the last: a kill in between loses one epoch at most."""
    if not is_url(place):
        return
    remote, root = fs.FileSystem.from_uri(place)
    remote.create_dir(root)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == LAST):
        if path.is_file() and path.suffix != ".part":
            # a copy that was cut off must not look whole
            fs.copy_files(str(path), f"{root}/{path.name}.part", destination_filesystem=remote)
            remote.move(f"{root}/{path.name}.part", f"{root}/{path.name}")


def forget(place: str) -> None:
    """Delete the place; nothing happens where there is none."""
    if not is_url(place):
        shutil.rmtree(place, ignore_errors=True)
        return
    remote, root = fs.FileSystem.from_uri(place)
    if remote.get_file_info(root).type != fs.FileType.NotFound:
        remote.delete_dir(root)
