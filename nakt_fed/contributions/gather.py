"""From a run's folder to what each site brought: pseudo-mask Dice with and without it, and how it answers.

Only stored answers are read; no site is asked, and no picture of a site is opened (a simulation's held-out test sets lie in
the run's folder with the answers to them).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.answered import Combiners, StoredAnswers
from nakt_fed.contributions.answers import Calibrating, agreement
from nakt_fed.contributions.coalitions import leave_one_out, shapley
from nakt_fed.errors import RunError
from nakt_fed.manifest import Manifest
from nakt_fed.metrics import dice, resampled_means
from nakt_fed.study import Study
from nakt_fed.study_file import load_study
from nakt_fed.transferal import SharedSet
from nakt_fed.weightings.robust import Trust, trust_of

Masks = NDArray[np.uint8]
Real = NDArray[np.float64]
VERSION = 1
SAMPLES = 10_000


class StoredRun:
    """The answers that a run has stored.

    Raises:
        RunError: no run, or no answers in it.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "manifest.json").is_file() or not (folder / "study.toml").is_file():
            raise RunError(f"{folder} is not the folder of a run with answers; give the one that `nakt run` printed")
        self.folder, self.study = folder, load_study(folder / "study.toml")
        self.transferal = _shared(self.study, folder, "transferal")

    @cached_property
    def tests(self) -> dict[str, SharedSet]:
        """The test sets, by name."""
        folders = [self.folder / "tests" / name for name in self.study.test_names]
        return {path.name: _shared(self.study, path, f"test-{path.name}") for path in folders if path.is_dir()}

    @cached_property
    def sites(self) -> list[str]:
        """Those that have answered everything, in the study's order."""
        everything = [self.transferal, *self.tests.values()]
        names = [name for name in self.study.site_names if not any(shared.masks.missing(name) for shared in everything)]
        if not names:
            raise RunError(f"no site has answered all pictures of {self.folder}; go on with `nakt run --resume`")
        return names

    @property
    def cards(self) -> dict[str, Any]:
        """The teachers' cards, by site."""
        told: Any = self.transferal.masks.group.attrs
        return dict(told.get("round", {}).get("cards") or told.get("cards", {}))

    @cached_property
    def answers(self) -> StoredAnswers:
        """Of these sites, to the transferal set."""
        return StoredAnswers(self.transferal.masks, self.sites, self.tests, self.study.fusion.annotated)

    def originals(self) -> Iterator[dict[str, Masks]]:
        """The answers to the transferal pictures, without views, chunk by chunk."""
        return self.answers.originals(self.transferal.manifest.originals)

    @cached_property
    def combiners(self) -> Combiners:
        """The study's way of combining, for some of the sites."""
        seed = self.study.study.seed
        return Combiners(self.study.fusion, self.cards, self.transferal.masks, self.tests, seed)

    @cached_property
    def trust(self) -> Trust:
        """What the answers to the transferal pictures say of each site."""
        return trust_of(self.sites, self.originals())


def _shared(study: Study, folder: Path, name: str) -> SharedSet:
    manifest = Manifest.from_json((folder / "manifest.json").read_bytes())
    return SharedSet(name, manifest, folder, study.chunk(len(manifest)))


def pseudo_dice(run: StoredRun, sites: Iterable[str]) -> Real:
    """Dice of the pseudo masks of these sites on all test pictures, (n,), test set by test set; of nobody 0."""
    names, parts = list(sites), []
    for shared in run.tests.values():
        truth = shared.truth > 127
        for number, rows in enumerate(shared.masks.chunks):
            masks = {site: shared.masks.read(site, number) for site in names}
            right = truth[rows.start : rows.stop]
            parts.append(dice(run.combiners.of(names)(masks) > 127, right) if names else np.zeros(len(right)))
    return np.concatenate(parts)


def write_json(found: dict[str, Any], path: Path) -> Path:
    """contributions.json, whole or not at all."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    return part.replace(path)


def gathered(run: StoredRun, *, seed: int = 0) -> dict[str, Any]:
    """contributions.json, its `students` not filled in; pseudo masks are combined as the study says.

    Raises:
        RunError: the run has no annotated pictures that the sites have answered.
    """
    if not run.tests:
        raise RunError(f"{run.folder} has no test set, so there is no Dice to contribute to; add [[test]] to the study")

    @cache
    def known(coalition: frozenset[str]) -> Real:
        return pseudo_dice(run, sorted(coalition))

    shares = shapley(run.sites, known, seed=seed)
    alone = {site: known(frozenset([site])) for site in run.sites}
    return {
        "version": VERSION,
        "study": run.study.study.name,
        "weighting": run.study.fusion.weighting,
        "sites": run.sites,
        "pictures": {name: len(shared.manifest) for name, shared in run.tests.items()},
        "everyone": told(run, {"everyone": known(frozenset(run.sites))}, seed)["everyone"],
        "alone": told(run, alone, seed),
        "shapley": told(run, shares, seed),
        "leave_one_out": told(run, leave_one_out(run.sites, known), seed),
        "agreement": _agreement(run),
        "suspects": run.trust.suspects(),
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


def _agreement(run: StoredRun) -> dict[str, Any]:
    found = agreement(run.sites, run.originals())
    return {
        "pictures": run.transferal.manifest.originals,
        "dice": found.tolist(),
        "correlation": run.trust.correlation.tolist(),
    }


def _calibration(run: StoredRun) -> dict[str, Any]:
    sums = {site: Calibrating() for site in run.sites}
    for shared in run.tests.values():
        truth = shared.truth
        for number, rows in enumerate(shared.masks.chunks):
            for site in run.sites:
                sums[site].add(shared.masks.read(site, number), truth[rows.start : rows.stop])
    return {site: asdict(each.result()) for site, each in sums.items()}
