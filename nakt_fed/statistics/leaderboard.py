"""Cells by mean Dice, and for each of them which others cannot be told apart from it."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nakt_fed.statistics.pairs import Pair, compare
from nakt_fed.statistics.rows import Block


@dataclass(frozen=True)
class Entry:
    """A line of the leaderboard; Dice in %, differences in points.

    `std` is over pictures, `seed_std` over the seeds' means (None with one seed), `difference` is this cell minus the
    reference (the best cell, or the one that all are compared with; None on its own line), `alike` are the ranks that it
    cannot be told apart from.
    """

    rank: int
    cell: str
    settings: dict[str, Any]
    mean: float
    std: float
    seed_std: float | None
    per_set: dict[str, float]
    difference: Pair | None
    alike: tuple[int, ...]

    @property
    def tied(self) -> bool:
        """Whether it is the reference, or cannot be told apart from it."""
        return self.difference is None or not self.difference.significant


@dataclass(frozen=True)
class Leaderboard:
    """`entries` in order of mean Dice, `pairs` are all comparisons (fractions), `reference` is the cell of the differences."""

    block: Block
    entries: list[Entry]
    pairs: list[Pair]
    reference: str

    @property
    def words(self) -> str:
        """What it is based on, in a sentence for people."""
        seeds = len(self.block.seeds)
        many = f"{seeds} seeds" if seeds > 1 else f"one seed ({self.block.seeds[0]})"
        family = f"{len(self.pairs)} comparison{'s' if len(self.pairs) != 1 else ''}"
        valid = "pictures and seeds are resampled" if seeds > 1 else "it holds for that seed alone"
        return (
            f"{len(self.block.pictures)} pictures, {many}; {family}, corrected by Holm; significant: p < 0.05 and a 95 % interval "
            f"without zero ({valid})"
        )


def leaderboard(found: Block, *, against: str | None = None, seed: int = 0, samples: int = 10_000) -> Leaderboard:
    """Compare the cells and put them in order; ties by name.

    Raises:
        DataError: `against` is no cell.
    """
    pairs = compare(found, against=against, seed=seed, samples=samples)
    means = found.per_picture.mean(axis=1)
    order = sorted(range(len(found.cells)), key=lambda i: (-means[i], found.cells[i]))
    ranks = {found.cells[i]: rank for rank, i in enumerate(order, 1)}
    by_cells = {(pair.first, pair.second): pair for pair in pairs}
    reference = against or found.cells[order[0]]
    entries = [_entry(found, i, ranks, by_cells, reference) for i in order]
    return Leaderboard(found, entries, pairs, reference)


def _entry(found: Block, i: int, ranks: dict[str, int], pairs: dict[tuple[str, str], Pair], reference: str) -> Entry:
    cell, values = found.cells[i], 100 * found.per_picture[i]
    alike = [b if a == cell else a for (a, b), pair in pairs.items() if cell in (a, b) and not pair.significant]
    seeds = 100 * found.dice[i].mean(axis=1)
    return Entry(
        rank=ranks[cell],
        cell=cell,
        settings=found.settings[cell],
        mean=float(values.mean()),
        std=float(values.std()),
        seed_std=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        per_set={name: float(values[columns].mean()) for name, columns in found.test_sets.items()},
        difference=_in_points(pairs.get((cell, reference)) or _turned(pairs.get((reference, cell)))),
        alike=tuple(sorted(ranks[other] for other in alike)),
    )


def _turned(pair: Pair | None) -> Pair | None:
    if pair is None:
        return None
    return replace(pair, first=pair.second, second=pair.first, mean=-pair.mean, low=-pair.high, high=-pair.low)


def _in_points(pair: Pair | None) -> Pair | None:
    return replace(pair, mean=100 * pair.mean, low=100 * pair.low, high=100 * pair.high) if pair else None
