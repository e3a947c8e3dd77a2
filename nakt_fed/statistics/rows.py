"""The rows of a sweep: Dice per picture of every cell and seed, as one block of numbers that can be compared."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from nakt_fed.errors import DataError


class Row(BaseModel):
    """One cell with one seed. `per_image`: {"<test set>/<picture>": Dice as a fraction}."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)
    cell: str
    settings: dict[str, Any] = {}
    seed: int = 0
    per_image: dict[str, float]


@dataclass(frozen=True)
class Block:
    """`dice`: (cells, seeds, pictures), fractions. Every cell has every seed and every picture of it.

    `left_out` says in words what some rows had and others lacked.
    """

    cells: tuple[str, ...]
    seeds: tuple[int, ...]
    pictures: tuple[str, ...]
    dice: NDArray[np.float64]
    settings: dict[str, dict[str, Any]]
    left_out: tuple[str, ...] = ()

    @property
    def per_picture(self) -> NDArray[np.float64]:
        """(cells, pictures): the mean over the seeds."""
        return np.asarray(self.dice.mean(axis=1))

    @property
    def test_sets(self) -> dict[str, list[int]]:
        """The columns of each test set, in the order of the pictures."""
        found: dict[str, list[int]] = {}
        for column, picture in enumerate(self.pictures):
            found.setdefault(picture.partition("/")[0], []).append(column)
        return found


def read_rows(path: Path) -> list[Row]:
    """Read a JSON list of rows, or a file of JSON lines.

    Raises:
        DataError: the file is not there, is no JSON, or a row lacks something; the row and the key are named.
    """
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines()]
    except FileNotFoundError:
        raise DataError(f"{path} is not there; give the rows that `nakt sweep` has written") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder; give the file of rows in it, masks.json or students.json") from None
    except ValueError as error:
        raise DataError(
            f"{path} is neither a list of rows in JSON nor JSON lines ({error}); give the rows that `nakt sweep` writes"
        ) from None
    return [_row(path, number, row) for number, row in enumerate(raw)]


def _row(path: Path, number: int, raw: Any) -> Row:
    try:
        return Row.model_validate(raw)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "the row itself"
        raise DataError(
            f'{path}: row {number}: {where}: {fault["msg"]}; expected {{"cell", "settings", "seed", "per_image"}}'
        ) from None


def block(rows: Sequence[Row]) -> Block:
    """The seeds and pictures that all cells have, so that every comparison is of the same pictures under the same seeds.

    Raises:
        DataError: fewer than two cells, a cell twice with one seed, or no seed or picture that all have.
    """
    table = _by_cell(rows)
    seeds = [set(by_seed) for by_seed in table.values()]
    common = sorted(set.intersection(*seeds))
    if not common:
        raise DataError(
            f"no seed is common to all cells ({ {cell: sorted(by_seed) for cell, by_seed in table.items()} }); "
            "let the sweep finish, or leave the cells out that have other seeds"
        )
    used = [table[cell][seed] for cell in table for seed in common]
    pictures = [picture for picture in used[0].per_image if all(picture in row.per_image for row in used)]
    if not pictures:
        raise DataError("no picture is common to all rows; compare cells that were measured on the same test sets")
    dice = np.array([[[table[cell][seed].per_image[i] for i in pictures] for seed in common] for cell in table])
    settings = {cell: by_seed[common[0]].settings for cell, by_seed in table.items()}
    return Block(tuple(table), tuple(common), tuple(pictures), dice, settings, _left_out(rows, common, pictures))


def _by_cell(rows: Sequence[Row]) -> dict[str, dict[int, Row]]:
    table: dict[str, dict[int, Row]] = {}
    for row in rows:
        by_seed = table.setdefault(row.cell, {})
        if row.seed in by_seed:
            raise DataError(f"cell {row.cell!r} is there twice with seed {row.seed}; keep one of the two rows")
        by_seed[row.seed] = row
    if len(table) < 2:
        raise DataError(f"a comparison needs at least two cells, got {sorted(table)}; add rows of another cell")
    return table


def _left_out(rows: Sequence[Row], seeds: Sequence[int], pictures: Sequence[str]) -> tuple[str, ...]:
    extra_rows = [f"{row.cell} with seed {row.seed}" for row in rows if row.seed not in seeds]
    extra_pictures = {i for row in rows for i in row.per_image} - set(pictures)
    words = [f"rows whose seed not every cell has: {', '.join(extra_rows)}"] if extra_rows else []
    return (*words, *([f"{len(extra_pictures)} pictures that not every row has"] if extra_pictures else []))
