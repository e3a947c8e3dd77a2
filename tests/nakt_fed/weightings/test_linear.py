"""The weights that are known before any mask."""

from typing import Any

import pytest

from nakt_fed.errors import StudyError
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings.bound import Combiner

CARDS: dict[str, dict[str, Any]] = {
    "ann": {"n_images": 30, "validation_dice": 0.8},
    "bob": {"n_images": 10, "validation_dice": 0.4},
    "cleo": {"n_images": 0, "validation_dice": None},
}


def of(*names: str) -> dict[str, dict[str, Any]]:
    return {name: CARDS[name] for name in names}


def site_weights(fusion: FusionSpec, cards: dict[str, dict[str, Any]]) -> dict[str, int] | None:
    return Combiner(fusion, cards).weights


def test_uniform_asks_nothing_of_the_cards() -> None:
    assert site_weights(FusionSpec(), {"ann": {}, "bob": {}}) == {"ann": 32768, "bob": 32768}


def test_by_images() -> None:
    """30 : 10 of 65536."""
    assert site_weights(FusionSpec(weighting="n_images"), of("ann", "bob")) == {"ann": 49152, "bob": 16384}


def test_by_validation_dice() -> None:
    """0.8 : 0.4 of 65536 is 43690.67 : 21845.33."""
    assert site_weights(FusionSpec(weighting="validation"), of("ann", "bob")) == {"ann": 43691, "bob": 21845}


def test_by_validation_dice_to_a_power() -> None:
    """0.8² : 0.4² = 4 : 1 of 65536 is 52428.8 : 13107.2."""
    fusion = FusionSpec(weighting="validation", options={"gamma": 2})
    assert site_weights(fusion, of("ann", "bob")) == {"ann": 52429, "bob": 13107}


def test_a_dice_of_zero_is_a_number() -> None:
    cards = {"ann": {"validation_dice": 0.5}, "bob": {"validation_dice": 0.0}}
    assert site_weights(FusionSpec(weighting="validation"), cards) == {"ann": 65536, "bob": 0}


def test_fixed_weights_are_shared_among_those_who_answered() -> None:
    fixed = FusionSpec(weighting="fixed", weights={"ann": 1, "bob": 1, "cleo": 2})
    assert site_weights(fixed, of("ann", "bob", "cleo")) == {"ann": 16384, "bob": 16384, "cleo": 32768}
    assert site_weights(fixed, of("ann", "bob")) == {"ann": 32768, "bob": 32768}


@pytest.mark.parametrize(("weighting", "field"), [("n_images", "n_images"), ("validation", "validation_dice")])
def test_a_silent_site_is_named(weighting: str, field: str) -> None:
    fusion = FusionSpec(weighting=weighting)
    with pytest.raises(StudyError, match=rf"needs {field} of every site, but \['cleo'\] give none .* \"uniform\""):
        site_weights(fusion, of("ann", "cleo"))
