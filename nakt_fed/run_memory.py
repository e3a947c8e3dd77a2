"""Who took part in a run, kept beside the answers: what comes after must not change with who is there today.

`marks` are the attributes of masks.zarr.
"""

from typing import Any

from nakt_fed.round import Round

Cards = dict[str, dict[str, object]]
"""Per site what it says of its teacher."""


def known_cards(marks: Any, cards: Cards) -> Any:
    """Also of sites that have answered in an earlier start only."""
    return {**marks.get("cards", {}), **cards}


def remember(marks: Any, cards: Cards, told: Round) -> None:
    """Every answer is here that will come."""
    marks["round"] = {
        "cards": cards,
        "overlaps": told.overlaps,
        "set_aside": told.set_aside,
        "away": told.away,
    }


def recall(marks: Any, told: Round) -> Any:
    """The cards, and into `told` who was set aside, when an earlier start had every answer; else None."""
    kept = marks.get("round")
    if not kept:
        return None
    told.overlaps, told.set_aside, told.away = kept["overlaps"], kept["set_aside"], kept.get("away", [])
    return kept["cards"]
