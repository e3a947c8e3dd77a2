"""Weights learned from a few annotated pictures."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from nakt_fed.weightings.scheme import Whole, weighting


@weighting(needs="site_masks", over="run", annotated=True)
def learned(run: Whole) -> dict[str, float]:
    """The weights on the simplex (none below 0, Σ = 1) whose mean has the least squared error on the annotated set.

    Breiman, "Stacked regressions", Machine Learning 24, 1996. The set is named in `fusion.annotated`; measure on other pictures.
    """
    assert run.stored is not None
    errors = np.zeros((len(run.sites), len(run.sites)))
    for masks, truth in run.stored.annotated():
        for row, true in enumerate(truth):
            wrong = np.stack([masks[site][row].ravel() for site in run.sites]).astype(float) - true.ravel()
            errors += wrong @ wrong.T  # whole numbers: exact, in any order
    return dict(zip(run.sites, on_simplex(errors).tolist(), strict=True))


def on_simplex(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The w ≥ 0 with Σ w = 1 that minimises wᵀ·errors·w. errors: (K, K), positive semidefinite.

    With errors = RᵀR it is v / Σ v of the v ≥ 0 that minimises |Rv|² + (Σ v − 1)²: for a fixed direction w, the best length of v
    leaves f / (1 + f) with f = wᵀ·errors·w, which grows with f. A trace of a ridge lets equal sites share alike.
    """
    sites = len(errors)
    scale = float(np.trace(errors)) / sites
    if not scale:
        return np.full(sites, 1 / sites)
    values, vectors = np.linalg.eigh(errors / scale + 1e-6 * np.eye(sites))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    found, _ = nnls(np.vstack([root, np.ones(sites)]), np.append(np.zeros(sites), 1.0))
    return np.asarray(found / found.sum())
