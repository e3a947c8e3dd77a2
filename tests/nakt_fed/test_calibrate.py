"""The cut of a student's soft masks, against the plain search through all levels."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import nn

from nakt_fed.calibrate import CUTS, FEWEST, ONE_HALF, best_cut, calibrate, calibrate_classes
from nakt_fed.metrics import dice
from nakt_fed.networks import build_network
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec

Levels = NDArray[np.uint8]
small = arrays(np.uint8, (3, 4, 4))
FIVE = [
    NetworkSpec(network="deeplabv3plus", encoder="resnet18"),
    NetworkSpec(network="panoptic_fpn", encoder="resnet18"),
    *(NetworkSpec(network=name, width=8) for name in ("unet", "attunet", "sdunet")),
]


@settings(max_examples=50)
@given(soft=small, truth=arrays(np.bool_, (3, 4, 4)))
def test_the_best_cut_is_that_of_the_plain_search(soft: Levels, truth: NDArray[np.bool_]) -> None:
    cut, levels = best_cut(soft, truth), range(CUTS.start, CUTS.stop)
    means = {level: dice(soft > level, truth).mean() for level in levels}
    assert means[cut] == pytest.approx(max(means.values()))
    nearer = [level for level in levels if abs(level - ONE_HALF) < abs(cut - ONE_HALF)]
    assert all(means[level] < means[cut] for level in nearer)


@pytest.mark.parametrize("spec", FIVE, ids=lambda spec: spec.network)
def test_afterwards_one_half_cuts_where_the_best_level_did(spec: NetworkSpec) -> None:
    """For each of the five networks: pseudo masks that are the network's own masks cut elsewhere."""
    torch.manual_seed(0)
    model, pictures = build_network(spec).eval(), some_pictures()
    before = soft_masks(model, pictures)
    level = int(np.clip(np.quantile(before, 0.8), CUTS.start, CUTS.stop - 1))
    pseudo = np.where(before > level, np.uint8(200), np.uint8(30))
    assert calibrate(model, pictures, pseudo) == best_cut(before, pseudo > ONE_HALF)
    after = soft_masks(model, pictures) > ONE_HALF
    assert dice(after, pseudo > ONE_HALF).mean() > 0.98
    assert calibrate(model, pictures, pseudo) == pytest.approx(ONE_HALF, abs=2)


def test_a_network_whose_last_bias_does_not_move_its_logits_stays_as_it_is() -> None:
    torch.manual_seed(0)
    inner = nn.Conv2d(1, 1, 3, padding=1)
    model, pictures = nn.Sequential(inner, nn.BatchNorm2d(1, affine=False).train()).eval(), some_pictures()
    model[1].running_var.fill_(4.0)  # halves whatever the bias adds
    bias = inner.bias.clone()
    assert calibrate(model, pictures, np.full_like(pictures, 255)) == ONE_HALF
    assert torch.equal(inner.bias, bias)


def test_without_any_bias_or_with_few_pictures_nothing_changes() -> None:
    bare, pictures = nn.Conv2d(1, 1, 1, bias=False), some_pictures()
    assert calibrate(bare, pictures, np.full_like(pictures, 255)) == ONE_HALF
    plain = nn.Conv2d(1, 1, 1)
    assert calibrate(plain, pictures[: FEWEST - 1], np.full_like(pictures[: FEWEST - 1], 255)) == ONE_HALF


def test_every_class_is_cut_by_the_pictures_of_which_it_is_known() -> None:
    torch.manual_seed(0)
    model, pictures = nn.Conv2d(1, 3, 1), np.repeat(some_pictures(), 2, axis=0)
    soft = soft_masks(model, pictures, classes=3)
    masks = np.where(soft > np.median(soft, axis=(0, 2, 3))[:, None, None], np.uint8(200), np.uint8(30))
    known = np.ones((len(pictures), 3), bool)
    known[::2, 1] = False
    masks[::2, 1] = 255 - masks[::2, 1]  # would move the cut, if it were looked at
    known[FEWEST - 1 :, 2] = False
    cuts = calibrate_classes(model, pictures, masks, known)
    assert cuts[:2] == [
        best_cut(soft[:, 0], masks[:, 0] > ONE_HALF),
        best_cut(soft[1::2, 1], masks[1::2, 1] > ONE_HALF),
    ]
    assert cuts[2] == ONE_HALF
    after = soft_masks(model, pictures, classes=3) > ONE_HALF
    for c, rows in ((0, slice(None)), (1, slice(1, None, 2))):
        assert dice(after[rows, c], masks[rows, c] > ONE_HALF).mean() > 0.98
    np.testing.assert_array_equal(soft_masks(model, pictures, classes=3)[:, 2], soft[:, 2])


def some_pictures() -> Levels:
    return np.random.default_rng(0).integers(0, 256, (FEWEST, 32, 32), dtype=np.uint8)
