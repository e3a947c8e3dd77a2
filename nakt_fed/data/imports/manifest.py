"""dataset.json: what was imported, from where, and on which side of the split every picture lies."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from nakt_fed.errors import DataError

NAME = "dataset.json"
VERSION: Literal[1] = 1
Split = Literal["train", "test"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One picture. `image` and `mask` are relative to the folder; `sha256` is of the image file."""

    name: str
    image: str
    mask: str | None
    source: str
    group: str | None
    label: str | None
    scanner: str | None
    part: str | None
    split: Split
    width: int
    height: int
    foreground: float | None
    sha256: str


class LeftOut(_Strict):
    """Pictures that were not taken: `why` continues "3 pictures ..."."""

    why: str
    count: int


class Fault(_Strict):
    """A file that could not be used and was passed over at the user's request."""

    source: str
    reason: str


class DatasetManifest(_Strict):
    """The whole file. `grouped_by` says what `group` is (patient, lesion); `near_duplicates` are groups of names."""

    version: Literal[1] = VERSION
    kind: str
    title: str
    licence: str
    citation: str
    nakt_fed: str
    seed: int
    test_share: float
    transferal: bool
    grouped_by: str | None
    pictures: list[Entry]
    near_duplicates: list[list[str]]
    left_out: list[LeftOut]
    faults: list[Fault]

    @property
    def contradictions(self) -> list[list[str]]:
        """Groups of near-duplicates whose pictures have different classes."""
        labels = {entry.name: entry.label for entry in self.pictures}
        return [group for group in self.near_duplicates if len({labels[name] for name in group} - {None}) > 1]

    def side(self, split: Split) -> list[Entry]:
        """The pictures on one side."""
        return [entry for entry in self.pictures if entry.split == split]


def write_manifest(manifest: DatasetManifest, folder: Path) -> None:
    """Write `folder`/dataset.json."""
    text = json.dumps(manifest.model_dump(), indent=1, ensure_ascii=False)
    (folder / NAME).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> DatasetManifest | None:
    """`folder`/dataset.json, None where there is none. Raises DataError where it isn't one of this version."""
    path = Path(folder) / NAME
    if not path.is_file():
        return None
    try:
        return DatasetManifest.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(
            f"{path} is no manifest of version {VERSION}: {where}: {first['msg']}; import the set again"
        ) from None
