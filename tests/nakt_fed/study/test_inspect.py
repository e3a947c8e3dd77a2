"""What is found out about a study before it starts."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nakt_fed.codec import encode
from nakt_fed.data.folders import PictureSet, load_pictures
from nakt_fed.errors import DataError, StudyError
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.study.inspect import MASK_BITS_PER_PIXEL, inspect_study
from nakt_fed.study.trainable import refuse_useless, try_network
from tests.tiny import SITES, UNET, tiny_study

SPEC = NetworkSpec(network="mine:make")


def test_counts_and_bytes(folders: Path) -> None:
    few = {"images": "few/images", "masks": "few/masks"}
    summary = inspect_study(tiny_study(folders, fine_tune=few))
    assert [(site.name, site.train, site.validation, site.test, site.checkpoint) for site in summary.sites] == [
        (name, 7, 1, 0, False) for name in SITES
    ]
    assert (summary.originals, summary.views, summary.pictures) == (7, 14, 21)
    assert summary.bytes_out == len(encode(load_pictures([folders / "organ" / "images"], 32).images)), (
        "all 7 are the sample"
    )
    assert summary.bytes_back == round(21 * 32 * 32 * MASK_BITS_PER_PIXEL / 8)
    assert summary.tests == {"outside": 3}
    assert summary.fine_tune == 4
    assert summary.faults == {}


def test_held_out_shares_are_test_sets(folders: Path) -> None:
    sites = [
        {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "test_share": 0.25, "teacher": UNET}
        for name in SITES
    ]
    summary = inspect_study(tiny_study(folders, site=sites))
    assert summary.tests == {"ann": 2, "bob": 2, "outside": 3}
    assert summary.sites[0].train == 5


def test_dropped_duplicates_are_not_counted(folders: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folders, tmp_path / "copy"))
    shutil.copy(place / "organ" / "images" / "0000.png", place / "organ" / "images" / "twin.png")
    assert inspect_study(tiny_study(place, transferal={"duplicates": "drop"})).originals == 7
    with pytest.raises(DataError, match=r"transferal: .*twin\.png has the pixels of .*0000\.png \(duplicates .*: 1\)"):
        inspect_study(tiny_study(place))


def test_more_pictures_than_there_are_cannot_be_kept(folders: Path) -> None:
    """Otherwise the run would say so after the teachers' training and all their answers."""
    assert inspect_study(tiny_study(folders, filter={"min_kept": 21})).pictures == 21
    assert inspect_study(tiny_study(folders, filter={"min_kept": 22, "enabled": False})).pictures == 21
    with pytest.raises(StudyError, match=r"min_kept is 22, but there are only 21 .* \(7, and 2 views of each\); lower"):
        inspect_study(tiny_study(folders, filter={"min_kept": 22}))


def test_the_random_state_of_the_caller_does_not_matter(folders: Path) -> None:
    summaries = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        summaries.append(inspect_study(tiny_study(folders)))
    assert summaries[0] == summaries[1]


class Fixed(nn.Module):
    """Answers whatever it is told; `seen` are the shapes it was asked and whether it was in training."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer, self.seen = answer, []  # type: ignore[var-annotated]

    def forward(self, images: torch.Tensor) -> Any:
        self.seen.append((tuple(images.shape), self.training, float(images.min()), float(images.max())))
        return self.answer(images)


def test_a_network_is_tried_as_it_will_be_used() -> None:
    for recipe, count in ((None, 1), (Recipe(batch_size=8), 2), (Recipe(batch_size=1), 1)):
        network = Fixed(lambda images: images)
        try_network(network, SPEC, 32, recipe)
        assert network.seen == [((count, 1, 32, 32), recipe is not None, -1.0, 1.0)]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda images: images[..., :16], r"network mine:make answers \(1, 1, 32, 16\) for pictures \(1, 1, 32, 32\)"),
        (lambda images: images.repeat(1, 2, 1, 1), r"answers \(1, 2, 32, 32\)"),
        (lambda images: {"out": images}, "answers dict for pictures"),
        (lambda images: images / 0, "answers NaN or infinity; check its weights"),
        (lambda images: [][0], "cannot work on batches of 1 at 32×32: list index out of range; take another"),
    ],
)
def test_a_network_that_cannot_be_used(answer: Any, words: str) -> None:
    with pytest.raises(StudyError, match=words):
        try_network(Fixed(answer), SPEC, 32, None)


def test_pictures_that_teach_nothing() -> None:
    images = np.zeros((2, 32, 32), np.uint8)
    lesion = images.copy()
    lesion[0, 3, 3] = 255
    refuse_useless(PictureSet(["a/1", "a/2"], images, lesion))
    with pytest.raises(DataError, match="all masks for training are empty"):
        refuse_useless(PictureSet(["a/1", "a/2"], images, images))
    with pytest.raises(DataError, match=r"at least 2 pictures, 1 left .* lower the shares"):
        refuse_useless(PictureSet(["a/1"], images[:1], lesion[:1]))
