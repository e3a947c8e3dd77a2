"""Shapley values by hand and by their laws; agreement, calibration and disagreement by hand."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.classification import binary_calibration_error

from nakt_fed.contributions.answers import Calibrating, Disagreement, agreement
from nakt_fed.contributions.coalitions import Value, leave_one_out, shapley
from nakt_fed.report.contributions_page import headline


def game(table: dict[str, float]) -> Value:
    """A value per coalition, written as its letters in order; nobody: 0."""
    return lambda coalition: np.array([table.get("".join(sorted(coalition)), 0.0)])


def by_orders(sites: str, value: Value) -> dict[str, float]:
    """The definition: the mean over all orders of what a site adds to those before it."""
    found = {
        site: np.mean(
            [
                (value(frozenset(o[: o.index(site) + 1])) - value(frozenset(o[: o.index(site)])))[0]
                for o in permutations(sites)
            ]
        )
        for site in sites
    }
    return {site: float(x) for site, x in found.items()}


def test_two_sites_by_hand() -> None:
    """a alone 60, b alone 50, both 70. Shapley: a (60 + 20) / 2 = 40, b (50 + 10) / 2 = 30. Left out: a 20, b 10."""
    value = game({"a": 60, "b": 50, "ab": 70})
    assert {s: v.tolist() for s, v in shapley("ab", value).items()} == {"a": [40], "b": [30]}
    assert {s: v.tolist() for s, v in leave_one_out("ab", value).items()} == {"a": [20], "b": [10]}


tables = st.lists(st.integers(-50, 100), min_size=15, max_size=15)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_shapley_is_the_mean_over_all_orders_and_shares_out_everything(numbers: list[int]) -> None:
    coalitions = ["".join(s for i, s in enumerate("abcd") if code >> i & 1) for code in range(1, 16)]
    value = game(dict(zip(coalitions, map(float, numbers), strict=True)))
    found = {site: float(v[0]) for site, v in shapley("abcd", value).items()}
    assert found == pytest.approx(by_orders("abcd", value))
    assert sum(found.values()) == pytest.approx(numbers[-1])


def test_many_sites_are_sampled_and_still_share_out_everything() -> None:
    """An additive game has one answer in any order: each site its own number."""
    sites = [f"s{k}" for k in range(10)]
    value: Value = lambda coalition: np.array([sum(float(s[1:]) for s in coalition), 1.0 * bool(coalition)])  # noqa: E731
    found = shapley(sites, value, orders=20)
    assert [float(found[s][0]) for s in sites] == pytest.approx(range(10))
    assert sum(float(v[1]) for v in found.values()) == pytest.approx(1)


def test_agreement_by_hand() -> None:
    """Of 4 pixels a sees the first two, b the first: Dice 2·1/3; on the second picture both see nothing: 1."""
    a = np.array([[[255, 255, 0, 0]], [[0, 0, 0, 0]]], np.uint8)
    b = np.array([[[128, 127, 0, 0]], [[0, 0, 0, 9]]], np.uint8)
    chunks = [{"a": a[:1], "b": b[:1]}, {"a": a[1:], "b": b[1:]}]
    assert agreement("ab", chunks).tolist() == [[1, pytest.approx(5 / 6)], [pytest.approx(5 / 6), 1]]


def test_the_calibration_error_is_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 256, (3, 16, 16), np.uint8)
    truth = np.where(rng.random(masks.shape) < masks / 255 * 0.8, 255, 0).astype(np.uint8)
    whole = Calibrating()
    for row in range(3):
        whole.add(masks[row : row + 1], truth[row : row + 1])
    given_, target = torch.from_numpy(masks.ravel() / 255), torch.from_numpy((truth.ravel() > 0).astype(int))
    reference = float(binary_calibration_error(given_, target, n_bins=10, norm="l1"))
    assert whole.result().error == pytest.approx(reference, abs=0.005), "a level on the border may be in either tenth"
    assert sum(whole.result().pixels) == masks.size


def test_a_tenth_without_pixels_and_the_error_by_hand() -> None:
    """Half of the pixels get 0 and are none, half get 1 of which every second is a target: error (0 + 0.5) / 2."""
    whole = Calibrating()
    whole.add(np.array([[[0, 0, 255, 255]]], np.uint8), np.array([[[0, 0, 255, 0]]], np.uint8))
    found = whole.result()
    assert found.error == 0.25
    assert (found.given[0], found.given[4], found.target[9]) == (0, None, 0.5)


def test_disagreement_by_hand() -> None:
    """0 and 1: deviation 0.5; alike: 0. Over two pictures the mean."""
    whole = Disagreement()
    first = whole.add([np.array([[[0, 255]]], np.uint8), np.array([[[255, 255]]], np.uint8)])
    whole.add([np.zeros((1, 1, 2), np.uint8)] * 2)
    assert first.tolist() == [[[0.5, 0]]]
    assert whole.mean.tolist() == [[0.25, 0]]


def test_the_headline_writes_numbers_as_the_table_does() -> None:
    told = {"everyone": {"mean": 0.614}, "shapley": {"ann": {"mean": 0.645}, "bob": {"mean": -0.031}}}
    assert headline({**told, "sites": ["bob", "ann"]}) == (
        "Together the sites reach 61.4\u00a0% pseudo-mask Dice: ann brought most (+64.5 points), bob least (−3.1)."
    )
