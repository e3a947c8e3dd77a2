"""A site's private pictures: read once, split by seed, never named outside the site."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nakt_fed.data.folders import PictureSet, load_classes, load_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.data.split import split_pictures
from nakt_fed.errors import DataError
from nakt_fed.seeds import draw
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.whole_file import write_json


@dataclass(frozen=True)
class PrivateData:
    """train, validation and test parts of one folder, disjoint."""

    train: PictureSet
    validation: PictureSet
    test: PictureSet

    def hashes(self) -> set[str]:
        """Content hashes of every private picture, to find transferal pictures that also lie here."""
        return {content_hash(image) for part in (self.train, self.validation, self.test) for image in part.images}


def private_data(site: SiteSpec, size: int, seed: int) -> PrivateData:
    """Read and split a site's folder: first `test_share` is held out, then the recipe's validation share of the rest. Where
    the patients are known, each of them is on one side.

    Raises:
        DataError: a picture or mask cannot be used, or all are of one patient, of whom none can be held out.
    """
    pictures = _pictures(site, size)
    rest, test = split_pictures(pictures, site.test_share, draw(seed, site.name, "test"))
    if site.test_share and pictures.groups and not test:
        raise DataError(
            f"site {site.name!r}: all pictures in {site.images} are of one patient, so none can be held out; "
            "add pictures of others, or set test_share = 0"
        )
    kept = pictures.subset(rest)
    train, validation = split_pictures(kept, site.teacher.validation, draw(seed, site.name, "validation"))
    return PrivateData(kept.subset(train), kept.subset(validation), pictures.subset(test))


def _pictures(site: SiteSpec, size: int) -> PictureSet:
    if site.images is None:
        return PictureSet([], np.zeros((0, size, size), np.uint8), None)
    return load_classes(site.images, site.masks, size) if site.masks else load_pictures([site.images], size)


def write_split(data: PrivateData, path: Path) -> None:
    """Which picture went where, for the site's own eyes."""
    parts = {"train": data.train.ids, "validation": data.validation.ids, "test": data.test.ids}
    write_json(path, {"version": 1, **parts})
