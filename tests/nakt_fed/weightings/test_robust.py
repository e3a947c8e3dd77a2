"""Who agrees with a majority: by hand, against NumPy, and with planted faults and attacks."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.attacks import ATTACKS
from nakt_fed.errors import StudyError
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings.bound import Combiner
from nakt_fed.weightings.robust import heard, trusted
from nakt_fed.weightings.scheme import weighting
from nakt_fed.weightings.trust import Agreement, Trust, covariance, majority, ramp, trust_of
from tests.nakt_fed.crowd import crowd, lesions, points

HARMLESS = {"shifted", "overconfident"}
"""They still see the lesions; uniform loses little by them."""
TRUTH = lesions(24)


def trust(attack: str, sites: int, bad: tuple[int, ...]) -> Trust:
    answers = crowd(TRUTH, sites, attack, bad)
    return trust_of(answers, [{s: m[:10] for s, m in answers.items()}, {s: m[10:] for s, m in answers.items()}])


def test_correlation_of_one_picture_is_numpys() -> None:
    masks = list(np.random.default_rng(0).integers(0, 256, (4, 9, 9), np.uint8))
    found = Agreement(4).add(masks).correlation
    assert found == pytest.approx(np.corrcoef([m.ravel() for m in masks]), abs=1e-5)


def test_a_mask_that_never_varies_agrees_with_nobody() -> None:
    masks = [np.full((3, 3), 255, np.uint8), np.eye(3, dtype=np.uint8), np.eye(3, dtype=np.uint8)]
    assert Agreement(3).add(masks).correlation.round(6).tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]]


def test_the_majoritys_agreement_by_hand() -> None:
    """5 sites: the second best of four others. s3 and s4 collude: 1.0 with each other, but 0.1 with all else."""
    pairs = np.full((5, 5), 0.6)
    pairs[3:], pairs[:, 3:] = 0.1, 0.1
    pairs[3, 4] = pairs[4, 3] = 1.0
    assert majority(pairs).tolist() == [0.6, 0.6, 0.6, 0.1, 0.1]


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 9), st.randoms(use_true_random=False))
def test_a_minority_cannot_raise_its_own_majority(sites: int, dice: object) -> None:
    """Whatever the bad sites answer one another, their ⌊K/2⌋-th best agreement is at most their best with an honest site."""
    rng = np.random.default_rng(dice.randrange(10**6))  # type: ignore[attr-defined]
    bad = (sites - 1) // 2
    pairs = rng.uniform(0, 0.5, (sites, sites))
    pairs = (pairs + pairs.T) / 2
    pairs[:bad, :bad] = 1
    assert (majority(pairs)[:bad] <= pairs[:bad, bad:].max(axis=1)).all()


def test_ramp() -> None:
    assert ramp(np.array([-1, 0.5, 0.625, 0.75, 2]), 0.5, 0.75).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("sites", [3, 5, 7])
def test_nobody_is_suspected_without_a_reason(sites: int) -> None:
    found = trust("", sites, ())
    assert found.suspects() == {}
    assert set(found.weights.values()) == {1.0}


@pytest.mark.parametrize("attack", sorted(set(ATTACKS) - HARMLESS))
@pytest.mark.parametrize(("sites", "bad"), [(3, (1,)), (5, (0, 3)), (7, (1, 2, 6))])
def test_exactly_the_bad_sites_are_suspected(attack: str, sites: int, bad: tuple[int, ...]) -> None:
    found = trust(attack, sites, bad)
    assert set(found.suspects()) == {f"s{k}" for k in bad}
    assert all(weight == 1 for site, weight in found.weights.items() if site not in found.suspects())


@pytest.mark.parametrize("attack", sorted(HARMLESS))
def test_who_still_sees_the_lesions_is_not_suspected(attack: str) -> None:
    for bad in combinations(range(5), 2):
        assert trust(attack, 5, bad).suspects() == {}


def test_the_evidence_names_what_was_seen() -> None:
    [words] = trust("all_positive", 5, (2,)).suspects().values()
    assert words.startswith(
        "over 24 pictures its masks correlate by 0.00 with those of its second most similar other site"
    )
    assert "it calls 100.0 % of the pixels a target, the others" in words


def test_chunks_and_empty_sets_do_not_matter() -> None:
    answers = crowd(TRUTH, 3)
    whole, none = trust_of(answers, [answers]), trust_of(answers, [])
    assert (whole.correlation == trust("", 3, ()).correlation).all()
    assert none.weights == dict.fromkeys(answers, 1.0)


def test_where_nothing_is_common_or_two_are_left_nobody_is_accused() -> None:
    rng = np.random.default_rng(1)
    noise = {f"s{k}": rng.integers(0, 256, (8, 32, 32), np.uint8) for k in range(5)}
    assert trust_of(noise, [noise]).suspects() == {}
    assert trust("blank", 2, (1,)).suspects() == {}


def test_one_picture_is_outvoted_picture_by_picture() -> None:
    lesion, none = TRUTH[0], np.zeros_like(TRUTH[0])
    assert heard([lesion, lesion, none, lesion]).tolist() == pytest.approx([1, 1, 0.0, 1], abs=0.2)
    assert heard([lesion, lesion, 255 - lesion]).tolist() == [1, 1, 0]
    assert heard([none, none, none]).tolist() == [1, 1, 1]
    assert heard([lesion, none]).tolist() == [1, 1], "of two nobody can say who is wrong"


def test_a_speck_decides_nothing() -> None:
    speck = np.zeros((48, 48), np.uint8)
    speck[3, 4] = 255
    assert heard([speck, np.zeros_like(speck), np.zeros_like(speck)]).min() > 0.6


def test_who_agrees_less_counts_less_by_the_square() -> None:
    """Against NumPy: 2·cov / (var + var), with what the filter takes for a target on top of both."""
    seen, half = TRUTH[0], TRUTH[0] // 2
    (a, both), (_, b) = np.cov(seen.ravel(), half.ravel(), bias=True)
    little = 256 / 384**2 * 255**2
    expected = (2 * both + little) / (a + b + little)
    assert heard([seen, seen, half]) == pytest.approx([1, 1, expected**2], rel=1e-4)


def combined(name: str, soft: dict[str, np.ndarray]) -> np.ndarray:
    """Pseudo masks of a scheme; the run's answers are the same pictures."""

    class Kept:
        def chunks(self) -> Iterator[dict[str, np.ndarray]]:
            yield soft

        def annotated(self) -> Iterator[Any]:
            raise AssertionError("not needed")

    cards = {site: {"binary": False} for site in soft}
    return Combiner(FusionSpec(weighting=name), cards, Kept)(soft)


@pytest.mark.parametrize("sites", [3, 5, 7])
def test_without_a_bad_site_it_loses_next_to_nothing(sites: int) -> None:
    soft = crowd(TRUTH, sites)
    assert points(combined("robust", soft), TRUTH) >= points(combined("uniform", soft), TRUTH) - 0.5


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(("sites", "bad"), [(3, (0,)), (5, (2,)), (5, (1, 4)), (7, (0, 3, 5))])
def test_it_is_as_good_as_the_honest_sites_alone(attack: str, sites: int, bad: tuple[int, ...]) -> None:
    """Up to half a point; what is lost besides is the bad sites' own knowledge. With 5 sites that is 2 points at most."""
    soft, clean = crowd(TRUTH, sites, attack, bad), points(combined("uniform", crowd(TRUTH, sites)), TRUTH)
    good = {site: masks for site, masks in soft.items() if int(site[1:]) not in bad}
    best, uniform, robust = (
        points(combined(name, answers), TRUTH)
        for name, answers in (("uniform", good), ("uniform", soft), ("robust", soft))
    )
    assert robust >= min(best, uniform) - 0.5
    if clean - uniform > 10:
        assert robust >= best - 0.5
        assert sites != 5 or clean - robust <= 2


def test_a_site_that_is_bad_now_and_then_is_outvoted_there() -> None:
    """Every third answer is blank: over the run it agrees, on these pictures it counts nothing."""
    soft = crowd(TRUTH, 3)
    soft["s1"][::3] = 0
    found = trust_of(soft, [soft])
    assert found.suspects() == {}
    row = heard([soft[site][0] for site in soft])
    assert row[[0, 2]].tolist() == [1, 1]
    assert row[1] < 0.5
    assert points(combined("robust", soft)[::3], TRUTH[::3]) > points(combined("uniform", soft)[::3], TRUTH[::3]) + 5


def test_a_first_look_goes_only_with_masks_per_picture() -> None:
    with pytest.raises(StudyError, match="a weighting with first has needs"):
        weighting(needs="site_masks", over="run", first=trusted)


def test_a_large_picture_is_told_by_every_second_pixel() -> None:
    large = [np.kron(mask, np.ones((8, 8), np.uint8)) for masks in crowd(TRUTH[:1], 3).values() for mask in masks]
    assert large[0].shape == (384, 384)
    assert covariance(large) == pytest.approx(np.cov([mask.ravel() for mask in large], bias=True), rel=1e-4)
