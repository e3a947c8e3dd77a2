"""Every pair of cells, picture by picture: mean difference with its interval, Wilcoxon's test, Holm's correction.

How seeds and pictures are combined. A picture under three seeds is one picture, not three: the test and the mean work on
the mean over the seeds per picture, so n is the number of pictures and nothing counts twice. The interval must also hold
for other seeds than those that were drawn: each bootstrap sample draws pictures and, on its own, seeds, both with
replacement, the same for the two cells (the pigeonhole bootstrap for crossed factors: Owen, "The pigeonhole bootstrap",
Annals of Applied Statistics 1(2), 2007; its variance is never too small on average). A difference counts as significant
only if the corrected test rejects and the interval leaves zero out: the first guards against the number of comparisons,
the second against the luck of a seed. With one seed all of it holds for that seed alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from nakt_fed.errors import DataError
from nakt_fed.metrics import resampled_means
from nakt_fed.statistics.rows import Block

ALPHA = 0.05
SAMPLES = 10_000
EQUAL = 1e-9
"""Differences of Dice below this are rounding."""


@dataclass(frozen=True)
class Pair:
    """Mean of Dice(first) − Dice(second), fractions, with its 95 % interval; `p` of Wilcoxon's test, `p_holm` corrected."""

    first: str
    second: str
    mean: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """The test rejects after correction, and the interval leaves zero out."""
        return self.p_holm < ALPHA and (self.low > 0 or self.high < 0)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979): the i-th smallest of m is multiplied by
    m − i + 1, never falls below the one before, and stays at most 1."""
    order = np.argsort(p, kind="stable")
    scaled = np.asarray(p, dtype=np.float64)[order] * np.arange(len(p), 0, -1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return [float(value) for value in corrected]


def signed_rank(differences: NDArray[np.float64]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test (SciPy; pictures without a difference are left out); 1 if none differs."""
    rounded = np.where(np.abs(differences) < EQUAL, 0, differences)
    rounded = rounded[rounded != 0]
    return float(wilcoxon(rounded).pvalue) if len(rounded) else 1.0


def bootstrap(found: Block, seed: int = 0, samples: int = SAMPLES) -> NDArray[np.float64]:
    """(samples, cells): mean Dice of every cell in samples of pictures and seeds; all cells share the samples."""
    cells, seeds, pictures = found.dice.shape
    means = resampled_means(found.dice.reshape(-1, pictures).T, seed, samples).reshape(samples, cells, seeds)
    if seeds == 1:
        return np.asarray(means[:, :, 0])
    drawn = np.random.default_rng([seed, 1]).multinomial(seeds, [1 / seeds] * seeds, size=samples) / seeds
    return np.asarray(np.einsum("bcs,bs->bc", means, drawn))


def compare(found: Block, *, against: str | None = None, seed: int = 0, samples: int = SAMPLES) -> list[Pair]:
    """All pairs of cells, or only those with the cell `against`; these comparisons are the family that Holm corrects for.

    Raises:
        DataError: there is no such cell.
    """
    if against is not None and against not in found.cells:
        raise DataError(f"there is no cell {against!r} among {list(found.cells)}; name one of them")
    drawn, mean = bootstrap(found, seed, samples), found.per_picture
    pairs = [
        (i, j)
        for i in range(len(found.cells))
        for j in range(i + 1, len(found.cells))
        if against is None or against in (found.cells[i], found.cells[j])
    ]
    p = [signed_rank(mean[i] - mean[j]) for i, j in pairs]
    return [_pair(found, drawn, i, j, *ps) for (i, j), *ps in zip(pairs, p, holm(p), strict=True)]


def _pair(found: Block, drawn: NDArray[np.float64], i: int, j: int, p: float, corrected: float) -> Pair:
    low, high = np.percentile(drawn[:, i] - drawn[:, j], [2.5, 97.5])
    mean = float((found.per_picture[i] - found.per_picture[j]).mean())
    return Pair(found.cells[i], found.cells[j], mean, float(low), float(high), p, corrected)
