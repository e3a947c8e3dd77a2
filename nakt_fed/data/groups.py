"""Which pictures of a folder belong together, as `nakt data import` has noted it: a patient's, a case's, a lesion's."""

import json
from collections.abc import Sequence
from pathlib import Path

from nakt_fed.data.imports.manifest import NAME, DatasetManifest, read_manifest


def groups_of(pictures: Sequence[Path], ids: Sequence[str]) -> list[str] | None:
    """The group of each picture, all of one folder; one of which nothing is known is a group of its own, by its id.

    The manifest lies beside the folder of the pictures, or, for DST/test/images, one level up.

    Returns:
        As many groups as pictures; None where no picture has one.

    Raises:
        DataError: the manifest is of another version of nakt-fed.
    """
    known: dict[Path, str] = {}
    folder = pictures[0].parent.resolve()
    for root in (folder.parent, folder.parent.parent):
        if manifest := _imported(root):
            known |= {root / entry.image: f"group {entry.group}" for entry in manifest.pictures if entry.group}
    groups = [known.get(folder / path.name, name) for path, name in zip(pictures, ids, strict=True)]
    return groups if groups != list(ids) else None


def _imported(root: Path) -> DatasetManifest | None:
    """Other programs call their files dataset.json too (nnU-Net): those are passed over."""
    try:
        content = json.loads((root / NAME).read_bytes())
    except (OSError, ValueError):
        return None
    return read_manifest(root) if isinstance(content, dict) and "nakt_fed" in content else None
