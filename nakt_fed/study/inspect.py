"""Look at everything a study names before anything starts: folders, pictures, masks, checkpoints, networks."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.codec import encode
from nakt_fed.data.folders import list_transferal, load_annotated, load_classes, read_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import NaktError, StudyError
from nakt_fed.networks import resolve
from nakt_fed.site_data import private_data
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.study.summary import Seen, SiteSummary, StudySummary
from nakt_fed.study.trainable import refuse_absent_gpus, refuse_useless, try_network
from nakt_fed.teacher import fresh_network
from nakt_fed.transferal import without_twins
from nakt_fed.weightings.check import refuse_combination

MASK_BITS_PER_PIXEL = 2.0
"""Measured on real soft masks with JPEG-LS: 1.1 to 3.2 at 96×96, by network and length of training; 1.4 at 256×256."""
SAMPLE = 16
"""Transferal pictures that are coded to estimate the bytes."""


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
        refuse_absent_gpus(student)
        each = student.model_copy(update={"batch_size": math.ceil(student.batch_size / student.workers)})
        try_network(fresh_network(student.spec(), 0), student.spec(), size, each)
    faults: dict[str, str] = {}
    seen = Seen()
    sites = [] if federated else [_site(site, study, faults, seen) for site in study.site]
    if sites and len(sites) - len(faults) < study.min_sites:
        raise StudyError("\n".join(faults.values()))
    with naming("transferal"):
        originals, bytes_out = _transferal(study, seen)
    answers = originals * (1 + study.transferal.views)
    if study.filter.enabled and study.filter.min_kept > answers:
        raise StudyError(
            f"filter.min_kept is {study.filter.min_kept}, but there are only {answers} transferal pictures ({originals}, and "
            f"{study.transferal.views} views of each); lower it, or add pictures"
        )
    tests = {site.name: site.test for site in sites if site.test} | _tests(study, seen)
    with naming("fine_tune"):
        annotated = _annotated(few.images, few.masks, size, seen) if few and few.images and few.masks else 0
    planes = max([len(classes) for classes in study.asked.values()], default=1)  # of the site that knows most
    back = round(answers * planes * size**2 * MASK_BITS_PER_PIXEL / 8)
    return StudySummary(sites, originals, answers - originals, bytes_out, back, tests, annotated, faults, seen)


@contextmanager
def naming(where: str) -> Iterator[None]:
    """Put in front of an error whose pictures or network it is about."""
    try:
        yield
    except NaktError as error:
        raise type(error)(f"{where}: {error}") from None


def _site(site: SiteSpec, study: Study, faults: dict[str, str], seen: Seen) -> SiteSummary:
    """A network that cannot answer goes to `faults`: whether the run can do without the site, `min_sites` says."""
    spec, path, size = site.teacher.spec(), site.teacher.checkpoint, study.study.image_size
    with naming(f"site {site.name!r}"):
        resolve(spec)
        data = private_data(site, size, study.study.seed)
        seen.add(f"site {site.name!r}", [*data.train.images, *data.validation.images])
        if not path:
            refuse_useless(data.train)
        model = load_checkpoint(path, expect=spec)[0] if path else fresh_network(spec, 0)
    try:
        try_network(model, spec, size, None if path else site.teacher)
    except StudyError as error:
        faults[site.name] = f"site {site.name!r}: {error}"
    return SiteSummary(site.name, spec.network, len(data.train), len(data.validation), len(data.test), path is not None)


def _transferal(study: Study, seen: Seen) -> tuple[int, int]:
    """How many originals there will be, and their coded bytes as estimated from a few. Refuses what the run would."""
    files = list_transferal(study.transferal.images)
    step, hashes, sample = max(1, len(files) // SAMPLE), [], []
    for row, image in enumerate(read_pictures((path for _, path in files), study.study.image_size)):
        hashes.append(content_hash(image))
        if row % step == 0:
            sample.append(image)
    seen.add("transferal", sample)
    seen.hashes["transferal"] = set(hashes)
    files, _ = without_twins(files, hashes, drop=study.transferal.duplicates == "drop")
    return len(files), len(encode(np.stack(sample))) * len(files) // len(sample)


def _tests(study: Study, seen: Seen) -> dict[str, int]:
    """Pictures of the coordinator's own test sets."""
    counts = {}
    for test in study.test:
        with naming(f"test set {test.name!r}"):
            pictures = load_classes(test.images, test.masks, study.study.image_size)
            counts[test.name] = len(pictures)
            seen.add(f"test set {test.name!r}", pictures.images)
    return counts


def _annotated(images: Path, masks: Path, size: int, seen: Seen) -> int:
    """Pictures to fine-tune on."""
    pictures = load_annotated(images, masks, size)
    seen.add("fine_tune", pictures.images)
    return len(pictures)
