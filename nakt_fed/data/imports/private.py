"""What importers of clinical files share: libraries that are optional, and numbers in place of names."""

import hashlib
import importlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from nakt_fed.data.pictures import Gray
from nakt_fed.errors import DataError


def library(name: str, what: str) -> Any:
    """The module of an optional package. Raises DataError with the command that installs it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise DataError(f"{what} is read by the package {name}; install it: pip install 'nakt-fed[medical]'") from None


def all_files(root: Path) -> list[Path]:
    """Every visible file below a folder, in the order of `LC_ALL=C sort`: messages name a file by its place here.

    Raises:
        DataError: a folder may not be read, or a link leads nowhere; without their names, which may be patients'.
    """
    found = []
    for folder, folders, names in os.walk(root, onerror=_refuse_closed):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(folder, name) for name in names if not name.startswith(".")]
    lost = sum(not os.path.isfile(path) for path in found)  # noqa: PTH113 - Path.is_file raises, with the name
    if lost:
        raise DataError(
            f"{lost} of {len(found)} entries below the folder cannot be opened as files, such as links that lead nowhere; mend or "
            "remove them (`find SRC ! -type d ! -xtype f` lists them)"
        )
    return sorted(found, key=lambda path: os.fsencode(path.relative_to(root)))


def _refuse_closed(error: OSError) -> NoReturn:
    raise DataError(
        f"a folder below may not be read ({error.strerror}); change its permissions (`find SRC ! -readable` lists them)"
    ) from None


def numbered(keys: Iterable[str], seed: int) -> dict[str, int]:
    """1, 2, ... for every different key, in an order by seed that tells nothing of the key."""
    ranking = sorted(set(keys), key=lambda key: hashlib.sha256(f"{seed}|{key}".encode()).digest())
    return {key: number for number, key in enumerate(ranking, 1)}


@contextmanager
def anonymous(place: str, what: str) -> Iterator[None]:
    """Whatever a library says of a file may hold a name or value of its header: only the kind of error is passed on."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(
            f"{place} cannot be read as {what} ({type(error).__name__}); replace it by an undamaged, decompressed copy "
            "or remove it"
        ) from None


def to_gray(values: npt.NDArray[Any], low: float, high: float) -> Gray:
    """`low` and below become 0, `high` and above 255, between them it is linear. Values that are no number become 0."""
    scaled = (np.nan_to_num(values.astype(np.float64), nan=low) - low) / ((high - low) or 1)
    return np.rint(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
