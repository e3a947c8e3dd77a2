import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nakt_fed.errors import StudyError
from nakt_fed.fusion import ONE, WeightedSum, fixed_point, fuse, sharpen
from tests.reference.fusion import float_mean, integer_mean

SHAPE = (2, 3, 2)
SITES = ["ann", "bob", "cleo", "dora", "eve"]

few = settings(max_examples=40, deadline=None)
masks = st.binary(min_size=12, max_size=12).map(lambda pixels: np.frombuffer(pixels, np.uint8).reshape(SHAPE))
weight = st.floats(0, 1e300) | st.integers(0, 10).map(float)
weights = st.dictionaries(st.sampled_from(SITES), weight, min_size=1).filter(lambda table: any(table.values()))


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, NDArray[np.uint8]], dict[str, float]]:
    """Soft masks of some sites and a weight for each."""
    table = draw(weights)
    return {site: draw(masks) for site in table}, table


@few
@given(answers())
def test_equals_exact_integers(case: tuple[dict[str, NDArray[np.uint8]], dict[str, float]]) -> None:
    soft, table = case
    whole = fixed_point(table)
    np.testing.assert_array_equal(fuse(soft, whole), integer_mean(soft, whole))


@few
@given(answers())
def test_within_one_gray_level_of_float64(case: tuple[dict[str, NDArray[np.uint8]], dict[str, float]]) -> None:
    """Half a level by rounding; each of at most 5 weights is off by less than 1/65536, which moves 255 by 0.02."""
    soft, table = case
    scale = max(table.values())  # a float sum of weights near 1e300 would overflow in the reference
    exact = float_mean(soft, {site: value / scale for site, value in table.items()})
    assert np.abs(fuse(soft, fixed_point(table)) - exact).max() <= 0.5 + len(soft) * 255 / ONE


@few
@given(answers(), st.randoms())
def test_order_of_the_sites_is_irrelevant(
    case: tuple[dict[str, NDArray[np.uint8]], dict[str, float]], dice: object
) -> None:
    soft, table = case
    whole = fixed_point(table)
    names = list(soft)
    dice.shuffle(names)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(fuse({name: soft[name] for name in names}, whole), fuse(soft, whole))


@few
@given(answers(), st.lists(st.integers(0, 2), min_size=5, max_size=5))
def test_grouping_of_the_sites_is_irrelevant(
    case: tuple[dict[str, NDArray[np.uint8]], dict[str, float]], group: list[int]
) -> None:
    """Three aggregators each add up some of the sites; their sums are merged."""
    soft, table = case
    whole = fixed_point(table)
    sums = [WeightedSum(SHAPE) for _ in range(3)]
    for place, (site, answer) in zip(group, soft.items(), strict=False):
        sums[place].add(answer, whole[site])
    np.testing.assert_array_equal(sums[0].merge(sums[1]).merge(sums[2]).result(), fuse(soft, whole))


def state(total: WeightedSum) -> tuple[int, list[int]]:
    return total.weight, total.products.ravel().tolist()


third = st.tuples(masks, st.integers(0, ONE // 3)).map(lambda pair: WeightedSum(SHAPE).add(*pair))


@few
@given(third, third, third)
def test_merging_is_associative_commutative_and_has_a_zero(a: WeightedSum, b: WeightedSum, c: WeightedSum) -> None:
    assert state(a.merge(b).merge(c)) == state(a.merge(b.merge(c)))
    assert state(a.merge(b)) == state(b.merge(a))
    assert state(a.merge(WeightedSum(SHAPE))) == state(a) == state(WeightedSum(SHAPE).merge(a))


def test_merging_leaves_its_parts_alone() -> None:
    a, b = (WeightedSum(SHAPE).add(np.full(SHAPE, level, np.uint8), ONE // 2) for level in (10, 20))
    before = state(a), state(b)
    a.merge(b).add(np.zeros(SHAPE, np.uint8), 0)
    assert (state(a), state(b)) == before


def test_half_a_level_is_rounded_up() -> None:
    """Half of 0 and half of 1 is 0.5, half of 254 and half of 255 is 254.5."""
    soft = {"ann": np.array([[[0, 254, 7]]], np.uint8), "bob": np.array([[[1, 255, 7]]], np.uint8)}
    assert fuse(soft, {"ann": ONE // 2, "bob": ONE // 2}).tolist() == [[[1, 255, 7]]]


@few
@given(weights)
def test_extremes_stay_extremes(table: dict[str, float]) -> None:
    for level in (0, 255):
        soft = {site: np.full(SHAPE, level, np.uint8) for site in table}
        assert (fuse(soft, fixed_point(table)) == level).all()


def test_largest_product_fits() -> None:
    alone = WeightedSum(SHAPE).add(np.full(SHAPE, 255, np.uint8), ONE)
    assert alone.products.max() == 255 * 65536
    assert (alone.result() == 255).all()


def test_incomplete_and_overfull_sums_are_our_own_mistakes() -> None:
    half = WeightedSum(SHAPE).add(np.zeros(SHAPE, np.uint8), ONE // 2)
    with pytest.raises(AssertionError):
        half.result()
    with pytest.raises(AssertionError):
        half.add(np.zeros(SHAPE, np.uint8), ONE // 2 + 1)
    with pytest.raises(AssertionError):
        half.add(np.zeros((1, 3, 2), np.uint8), 1)


@few
@given(weights)
def test_fixed_point_is_the_nearest_split_of_65536(table: dict[str, float]) -> None:
    whole = fixed_point(table)
    total = sum(map(Fraction, table.values()))
    assert sum(whole.values()) == 65536
    assert all(abs(whole[site] - Fraction(table[site]) / total * 65536) < 1 for site in table)


@few
@given(weights, st.randoms())
def test_fixed_point_does_not_depend_on_the_order(table: dict[str, float], dice: object) -> None:
    names = list(table)
    dice.shuffle(names)  # type: ignore[attr-defined]
    assert fixed_point({name: table[name] for name in names}) == fixed_point(table)


@few
@given(weights)
def test_a_heavier_site_never_counts_less(table: dict[str, float]) -> None:
    whole = fixed_point(table)
    for a in table:
        for b in table:
            assert table[a] <= table[b] or whole[a] >= whole[b]


@few
@given(weights, st.sampled_from([2.0**-30, 0.5, 4.0]))
def test_only_proportions_count(table: dict[str, float], factor: float) -> None:
    small = {site: min(value, 1e9) + 1 for site, value in table.items()}  # the product stays exact
    assert fixed_point({site: value * factor for site, value in small.items()}) == fixed_point(small)


def test_three_equal_sites_get_the_rest_by_name() -> None:
    """65536 = 3 · 21845 + 1."""
    assert fixed_point({"cleo": 1, "ann": 1, "bob": 1}) == {"ann": 21846, "bob": 21845, "cleo": 21845}


def test_weights_that_a_float_sum_cannot_hold() -> None:
    huge = fixed_point({"ann": 1.5e308, "bob": 1.5e308, "cleo": 5e-324})
    assert huge == {"ann": 32768, "bob": 32768, "cleo": 0}


@pytest.mark.parametrize("value", [-1.0, -math.inf, math.inf, math.nan])
def test_impossible_weight_is_refused_with_the_site(value: float) -> None:
    with pytest.raises(StudyError, match=rf"weight of site 'bob' is {value}; expected a finite number of at least 0"):
        fixed_point({"ann": 1.0, "bob": value})


def test_all_zero_weights_are_refused_with_the_remedy() -> None:
    with pytest.raises(StudyError, match=r"\['ann', 'bob'\] are all zero; give at least one a positive weight"):
        fixed_point({"bob": 0.0, "ann": 0.0})


every_level = np.arange(256, dtype=np.uint8)


@few
@given(st.floats(0.05, 20))
def test_sharpened_masks_are_a_tempered_sigmoid(temperature: float) -> None:
    exact = torch.sigmoid(torch.logit(torch.arange(256, dtype=torch.float64) / 255) / temperature).numpy()
    assert np.abs(sharpen(every_level, temperature) - 255 * exact).max() <= 0.5 + 1e-6


@few
@given(st.floats(0.05, 20))
def test_sharpening_keeps_order_certainty_and_symmetry(temperature: float) -> None:
    sharp = sharpen(every_level, temperature)
    assert (np.diff(sharp.astype(int)) >= 0).all()
    assert sharp[0] == 0
    assert sharp[255] == 255
    assert np.abs(sharp.astype(int) + sharp[::-1] - 255).max() <= 1  # rounding
    assert ((sharp > 127) == (every_level > 127)).all()


def test_temperature_1_changes_nothing_and_a_lower_one_moves_away_from_one_half() -> None:
    assert sharpen(every_level, 1.0) is every_level
    assert (sharpen(every_level, 0.5)[[64, 191]] == [26, 229]).all()  # 255 p² / (p² + (1-p)²) by hand: 25.74, 229.26
