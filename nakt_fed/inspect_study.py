"""Look at everything a study names before anything starts: folders, pictures, masks, checkpoints, networks."""

from dataclasses import dataclass

import numpy as np

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.codec import encode
from nakt_fed.data.folders import list_transferal, load_annotated, load_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import DataError, NaktError
from nakt_fed.networks import resolve
from nakt_fed.site_data import PrivateData, private_data
from nakt_fed.study import SiteSpec, Study

MASK_BITS_PER_PIXEL = 1.4
"""Measured on real soft masks at 256×256 with JPEG-LS."""


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
    """What a run of the study would work on. Bytes are per site, in coded form; `bytes_back` is an estimate."""

    sites: list[SiteSummary]
    originals: int
    views: int
    bytes_out: int
    bytes_back: int
    tests: dict[str, int]
    fine_tune: int

    @property
    def pictures(self) -> int:
        return self.originals + self.views


def inspect_study(study: Study) -> StudySummary:
    """Read every picture once.

    Raises:
        DataError, CheckpointError, StudyError: with the site, the file and the remedy.
    """
    resolve(study.student.spec())
    size = study.study.image_size
    sites = [_site(site, study) for site in study.site]
    pictures = load_pictures(study.transferal.images, size)
    _refuse_twins(study, pictures.images)
    sample = pictures.images[:: max(1, len(pictures) // 16)]
    bytes_out = len(encode(sample)) * len(pictures) // len(sample)
    views = len(pictures) * study.transferal.views
    back = round((len(pictures) + views) * size**2 * MASK_BITS_PER_PIXEL / 8)
    tests = {site.name: site.test for site in sites if site.test}
    tests |= {test.name: len(load_annotated(test.images, test.masks, size)) for test in study.test}
    few = len(load_annotated(study.fine_tune.images, study.fine_tune.masks, size)) if study.fine_tune else 0
    return StudySummary(sites, len(pictures), views, bytes_out, back, tests, few)


def _site(site: SiteSpec, study: Study) -> SiteSummary:
    try:
        data = private_data(site, study.study.image_size, study.study.seed)
        resolve(site.teacher.spec())
        if site.teacher.checkpoint:
            load_checkpoint(site.teacher.checkpoint, expect=site.teacher.spec())
        else:
            _refuse_too_few(data)
    except NaktError as error:
        raise type(error)(f"site {site.name!r}: {error}") from None
    parts = (len(data.train), len(data.validation), len(data.test))
    return SiteSummary(site.name, site.teacher.network, *parts, site.teacher.checkpoint is not None)


def _refuse_too_few(data: PrivateData) -> None:
    if len(data.train) < 2:
        raise DataError(f"{len(data.train)} pictures are left for training; give at least 2, or lower test_share and teacher.validation")
    assert data.train.masks is not None
    if not np.any(data.train.masks):
        raise DataError("all masks for training are empty; nothing can be learned from them, check the masks folder")


def _refuse_twins(study: Study, images: np.ndarray) -> None:
    """The same rule as when the transferal set is built, here before the teachers are trained."""
    if study.transferal.duplicates == "drop":
        return
    files = list_transferal(study.transferal.images)
    seen: dict[str, int] = {}
    for row, image in enumerate(images):
        first = seen.setdefault(content_hash(image), row)
        if first != row:
            raise DataError(
                f'transferal: {files[row][1]} has the pixels of {files[first][1]}; remove one of them, or set transferal.duplicates = "drop"'
            )
