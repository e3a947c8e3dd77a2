"""Look at everything a study names before anything starts: folders, pictures, masks, checkpoints, networks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.codec import encode
from nakt_fed.data.folders import PictureSet, list_transferal, load_annotated, load_classes, read_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError, NaktError, StudyError
from nakt_fed.networks import describe, resolve
from nakt_fed.predict import normalise, to_input
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.site_data import private_data
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study_tables import SiteSpec
from nakt_fed.teacher import fresh_network
from nakt_fed.transferal import without_twins
from nakt_fed.weightings.check import refuse_combination

MASK_BITS_PER_PIXEL = 2.0
"""Measured on real soft masks with JPEG-LS: 1.1 to 3.2 at 96×96, by network and length of training; 1.4 at 256×256."""
SAMPLE = 16
"""Transferal pictures that are coded to estimate the bytes."""


@dataclass(frozen=True)
class SiteSummary:
    """Pictures of one site, by part."""

    name: str
    network: str
    train: int
    validation: int
    test: int
    checkpoint: bool


@dataclass(frozen=True)
class StudySummary:
    """What a run of the study would work on. Bytes are per site, in coded form; `bytes_back` is an estimate.

    `faults` holds the sites that will be set aside because of their network, which `round.min_sites` allows.
    """

    sites: list[SiteSummary]
    originals: int
    views: int
    bytes_out: int
    bytes_back: int
    tests: dict[str, int]
    fine_tune: int
    faults: dict[str, str]

    @property
    def pictures(self) -> int:
        return self.originals + self.views


def inspect_study(study: Study, federated: bool = False) -> StudySummary:
    """Read every picture once and let every network answer one; `federated`: only what the coordinator has.

    Raises:
        DataError, CheckpointError, StudyError: with the site or test set, the file and the remedy.
    """
    size, student, few = study.study.image_size, study.student, study.fine_tune
    refuse_combination(study)
    if isinstance(study, FederatedStudy) and not federated:
        raise StudyError(
            "the study only names its sites, so it cannot be simulated; give each site images and a teacher, or run it "
            "between hospitals with `nakt run STUDY --federation KIT`"
        )
    with naming("student"):
        try_network(fresh_network(student.spec(), 0), student.spec(), size, student)
    faults: dict[str, str] = {}
    sites = [] if federated else [_site(site, study, faults) for site in study.site]
    if sites and len(sites) - len(faults) < study.min_sites:
        raise StudyError("\n".join(faults.values()))
    with naming("transferal"):
        originals, bytes_out = _transferal(study)
    answers = originals * (1 + study.transferal.views)
    if study.filter.enabled and study.filter.min_kept > answers:
        raise StudyError(
            f"filter.min_kept is {study.filter.min_kept}, but there are only {answers} transferal pictures ({originals}, and "
            f"{study.transferal.views} views of each); lower it, or add pictures"
        )
    tests = {site.name: site.test for site in sites if site.test} | _tests(study)
    with naming("fine_tune"):
        annotated = len(load_annotated(few.images, few.masks, size)) if few and few.images and few.masks else 0
    planes = max([len(classes) for classes in study.asked.values()], default=1)  # of the site that knows most
    back = round(answers * planes * size**2 * MASK_BITS_PER_PIXEL / 8)
    return StudySummary(sites, originals, answers - originals, bytes_out, back, tests, annotated, faults)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put in front of an error whose pictures or network it is about."""
    try:
        yield
    except NaktError as error:
        raise type(error)(f"{where}: {error}") from None


def _site(site: SiteSpec, study: Study, faults: dict[str, str]) -> SiteSummary:
    """A network that cannot answer goes to `faults`: whether the run can do without the site, `min_sites` says."""
    spec, path, size = site.teacher.spec(), site.teacher.checkpoint, study.study.image_size
    with naming(f"site {site.name!r}"):
        resolve(spec)
        data = private_data(site, size, study.study.seed)
        if not path:
            refuse_useless(data.train)
        model = load_checkpoint(path, expect=spec)[0] if path else fresh_network(spec, 0)
    try:
        try_network(model, spec, size, None if path else site.teacher)
    except StudyError as error:
        faults[site.name] = f"site {site.name!r}: {error}"
    return SiteSummary(site.name, spec.network, len(data.train), len(data.validation), len(data.test), path is not None)


def refuse_useless(train: PictureSet) -> None:
    """Raise DataError when nothing can be learned from these annotated pictures."""
    if len(train) < 2:
        raise DataError(
            f"training needs at least 2 pictures, {len(train)} left when those for validation and test are held out; "
            "add pictures, or lower the shares that are held out"
        )
    if not np.any(train.masks):
        raise DataError("all masks for training are empty, so nothing can be learned from them; check the masks")


def try_network(model: nn.Module, spec: NetworkSpec, size: int, recipe: Recipe | None) -> None:
    """Let a network answer a picture or, with the recipe it is to be trained by, a small batch in training mode.

    Raises:
        StudyError: it cannot work at this size, or its answer is not one finite logit per pixel.
    """
    count = min(2, recipe.batch_size) if recipe else 1
    ramp = np.linspace(0, 255, size * size).astype(np.uint8).reshape(1, size, size)
    model.train(recipe is not None)
    try:
        with torch.no_grad():
            logits = model(normalise(to_input(np.repeat(ramp, count, axis=0))))
    except Exception as error:  # a library's or a user's own code may raise anything
        what = f"network {describe(spec)} cannot work on batches of {count} at {size}×{size}: {error}"
        raise StudyError(f"{what}; take another image_size, batch_size or network") from error
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
    wanted = (count, spec.classes, size, size)
    if shape != wanted:
        raise StudyError(
            f"network {describe(spec)} answers {shape} for pictures {(count, 1, size, size)}; "
            f"let it return logits {wanted}, of the pictures' own size"
        )
    if not torch.isfinite(logits).all():
        raise StudyError(f"network {describe(spec)} answers NaN or infinity; check its weights and its normalisation")


def _transferal(study: Study) -> tuple[int, int]:
    """How many originals there will be, and their coded bytes as estimated from a few. Refuses what the run would."""
    files = list_transferal(study.transferal.images)
    step, hashes, sample = max(1, len(files) // SAMPLE), [], []
    for row, image in enumerate(read_pictures((path for _, path in files), study.study.image_size)):
        hashes.append(content_hash(image))
        if row % step == 0:
            sample.append(image)
    files, _ = without_twins(files, hashes, drop=study.transferal.duplicates == "drop")
    return len(files), len(encode(np.stack(sample))) * len(files) // len(sample)


def _tests(study: Study) -> dict[str, int]:
    """Pictures of the coordinator's own test sets."""
    counts = {}
    for test in study.test:
        with naming(f"test set {test.name!r}"):
            counts[test.name] = len(load_classes(test.images, test.masks, study.study.image_size))
    return counts
