"""From a run's folder to what each site brought: pseudo-mask Dice with and without it, and how it answers.

Only stored answers are read; no site is asked, and no picture of a site is opened (a simulation's held-out test sets lie in
the run's folder with the answers to them).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.answered import Combiners, StoredAnswers
from nakt_fed.contributions.answers import Calibrating, agreement
from nakt_fed.contributions.coalitions import leave_one_out, shapley
from nakt_fed.errors import RunError
from nakt_fed.metrics import resampled_means
from nakt_fed.replay.stored import StoredRun
from nakt_fed.shared_set import SharedSet
from nakt_fed.weightings.trust import Trust, trust_of

Masks = NDArray[np.uint8]
Real = NDArray[np.float64]
VERSION = 1
SAMPLES = 10_000


def trust(run: StoredRun) -> Trust:
    """What the answers to the transferal pictures say of each site."""
    return trust_of(run.active, originals(run))


def originals(run: StoredRun) -> Iterator[dict[str, Masks]]:
    """The answers to the transferal pictures, without views, chunk by chunk."""
    manifest = run.transferal.manifest
    return StoredAnswers(run.transferal.masks, run.active, {}, None).originals(manifest.originals)


def pseudo_dice(run: StoredRun, combiners: Combiners, sites: Iterable[str]) -> Real:
    """Dice of the pseudo masks of these sites on all test pictures, (n,), test set by test set; of nobody 0."""
    names = list(sites)
    if not names:
        return np.zeros(sum(len(shared.manifest) for shared in run.tests.values()))
    combine = combiners.of(names)

    def answer(shared: SharedSet, number: int) -> Masks:
        return combine({site: shared.masks.read(site, number) for site in names})

    return np.array(list(run.measured(answer, None).values()))


def gathered(run: StoredRun, *, seed: int = 0) -> dict[str, Any]:
    """contributions.json, its `students` not filled in; pseudo masks are combined as the study says.

    Raises:
        RunError: the run has no annotated pictures that the sites have answered.
    """
    if not run.tests:
        masks = f" with masks of {run.label!r}" if run.label else ""
        raise RunError(
            f"{run.folder} has no test set{masks}, so there is no Dice to contribute to; add [[test]] to the study"
        )

    combiners = run.combiners(run.study.fusion)

    @cache
    def known(coalition: frozenset[str]) -> Real:
        return pseudo_dice(run, combiners, sorted(coalition))

    found, shares = trust(run), shapley(run.active, known, seed=seed)
    alone = {site: known(frozenset([site])) for site in run.active}
    return {
        "version": VERSION,
        "study": run.study.study.name,
        **({"class": run.label} if run.label else {}),
        "weighting": run.study.fusion.weighting,
        "sites": run.active,
        "pictures": {name: len(shared.manifest) for name, shared in run.tests.items()},
        "everyone": told(run, {"everyone": known(frozenset(run.active))}, seed)["everyone"],
        "alone": told(run, alone, seed),
        "shapley": told(run, shares, seed),
        "leave_one_out": told(run, leave_one_out(run.active, known), seed),
        "agreement": _agreement(run, found),
        "suspects": found.suspects(),
        "calibration": _calibration(run),
        "students": None,
    }


def told(run: StoredRun, values: Mapping[str, Real], seed: int = 0) -> dict[str, dict[str, Any]]:
    """Per site the mean over all test pictures with its 95 % interval (bootstrap over the pictures), and the mean per set."""
    ends = np.cumsum([len(shared.manifest) for shared in run.tests.values()])[:-1]
    drawn = resampled_means(np.stack(list(values.values()), axis=1), seed, SAMPLES)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return {
        site: {
            "mean": float(each.mean()),
            "low": float(low[k]),
            "high": float(high[k]),
            "per_set": {t: float(part.mean()) for t, part in zip(run.tests, np.split(each, ends), strict=True)},
        }
        for k, (site, each) in enumerate(values.items())
    }


def _agreement(run: StoredRun, found: Trust) -> dict[str, Any]:
    return {
        "pictures": found.pictures,
        "dice": agreement(run.active, originals(run)).tolist(),
        "correlation": found.correlation.tolist(),
    }


def _calibration(run: StoredRun) -> dict[str, Any]:
    sums = {site: Calibrating() for site in run.active}
    for shared in run.tests.values():
        truth = shared.truth
        for number, rows in enumerate(shared.masks.chunks):
            for site in run.active:
                sums[site].add(shared.masks.read(site, number), truth[rows.start : rows.stop])
    return {site: asdict(each.result()) for site, each in sums.items()}
