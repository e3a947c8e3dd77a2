"""Who counts how much: the weights w_i of Algorithm 1 in fixed point."""

from collections.abc import Mapping
from typing import Any

from nakt_fed.errors import StudyError
from nakt_fed.fusion import fixed_point
from nakt_fed.study import FusionSpec


def site_weights(fusion: FusionSpec, cards: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Weights of the sites that answered, from the teachers' cards (section 2: the paper weighs equally).

    Raises:
        StudyError: a site does not tell the number that the scheme needs.
    """
    if fusion.weighting == "uniform":
        return fixed_point(dict.fromkeys(cards, 1.0))
    if fusion.weighting == "fixed":
        return fixed_point({site: fusion.weights[site] for site in cards})
    field = {"n_images": "n_images", "validation": "validation_dice"}[fusion.weighting]
    silent = [site for site, card in cards.items() if card[field] is None or (field == "n_images" and not card[field])]
    if silent:
        raise StudyError(
            f'fusion.weighting = "{fusion.weighting}" needs {field} of every site, but {silent} give none (a loaded checkpoint may lack it); '
            'take "uniform", or "fixed" with fusion.weights'
        )
    return fixed_point({site: float(card[field]) for site, card in cards.items()})
