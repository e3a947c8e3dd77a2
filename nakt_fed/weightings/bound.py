"""A scheme with the sites it combines: from a chunk's masks to pseudo masks, picture by picture, the same in any order and chunking."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import numpy as np

from nakt_fed.errors import StudyError
from nakt_fed.fusion import fixed_point, fuse
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings import find
from nakt_fed.weightings.mean import numbers, weighted_mean
from nakt_fed.weightings.scheme import Answers, Masks, Scheme, Stored, Sums, Whole

Cards = Mapping[str, Mapping[str, Any]]


class Combiner:
    """Line 2 of Algorithm 1 for these sites: call it with every site's masks (n, H, W) uint8 of the same pictures.

    Args:
        stored: opens the sites' stored answers, for a scheme that weighs the sites once by their masks.

    Raises:
        StudyError: the scheme and the sites do not go together (`refuse_cards`).
    """

    def __init__(self, fusion: FusionSpec, cards: Cards, stored: Callable[[], Stored] | None = None, seed: int = 0):
        self.scheme, self.fusion, self.seed = find(fusion.weighting), fusion, seed
        refuse_cards(self.scheme, fusion, cards)
        self.sites = tuple(sorted(cards))  # in one order, sums of floats inside a scheme are the same
        self.statistic = statistic_of(self.scheme, fusion, cards)
        self._stored = stored

    @cached_property
    def weights(self) -> dict[str, int] | None:
        """In fixed point, Σ = 65536; None where they differ from picture to picture, or there are none."""
        if self.scheme.over != "run":
            return None
        stored = self._stored() if self._stored and self.scheme.needs == "site_masks" else None
        whole = Whole(self.sites, self.statistic, stored, self.seed)
        return fixed_point(numbers(self.scheme(whole, **self.fusion.options), self.sites))

    @cached_property
    def told(self) -> Mapping[str, float]:
        """What a picture's answers come with: the declared statistic, or what the scheme's `first` finds in the run."""
        if self.scheme.first is None:
            return self.statistic
        whole = Whole(self.sites, {}, self._stored() if self._stored else None, self.seed)
        with self.scheme.own_faults():
            return numbers(self.scheme.first(whole), self.sites)

    @cached_property
    def mark(self) -> str:
        """Of all that decides the pseudo masks beside the answers themselves."""
        if self.scheme.needs == "sums" and self.weights:
            return json.dumps(sorted(self.weights.items()))
        told = [
            self.fusion.model_dump(mode="json"),
            self.sites,
            dict(self.statistic),
            self.seed,
            self.scheme.code_sha256(),
        ]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def __call__(self, soft: Mapping[str, Masks]) -> Masks:
        soft = {site: soft[site] for site in self.sites}
        if self.weights is not None:
            return fuse(soft, self.weights)
        pictures = range(len(soft[self.sites[0]]))
        return np.concatenate([self._picture({s: masks[i : i + 1] for s, masks in soft.items()}) for i in pictures])

    def _picture(self, soft: Mapping[str, Masks]) -> Masks:
        scheme, options = self.scheme, self.fusion.options
        found = scheme(_sums(scheme, soft) if scheme.part else Answers(soft, self.told), **options)
        pseudo = weighted_mean(soft, found) if isinstance(found, Mapping) else found
        shape = soft[self.sites[0]].shape
        if getattr(pseudo, "dtype", None) != np.uint8 or pseudo.shape != shape:
            came = f"{getattr(pseudo, 'dtype', type(pseudo).__name__)} {getattr(pseudo, 'shape', '')}"
            raise StudyError(
                f"weighting {self.fusion.weighting!r} gave {came} for masks {shape}; return uint8 masks of their shape, or {{site: weights}}"
            )
        return pseudo


def _sums(scheme: Scheme, soft: Mapping[str, Masks]) -> Sums:
    assert scheme.part is not None
    total: tuple[Any, ...] | None = None
    with scheme.own_faults():
        for masks in soft.values():
            parts = scheme.part(masks)
            total = parts if total is None else tuple(a + b for a, b in zip(total, parts, strict=True))
    assert total is not None
    return Sums(total, len(soft))


def statistic_of(scheme: Scheme, fusion: FusionSpec, cards: Cards) -> dict[str, float]:
    """The number of every site that the scheme declares."""
    if scheme.statistic is None:
        return {}
    if scheme.statistic == "weights":
        return {site: fusion.weights[site] for site in sorted(cards)}
    return {site: float(cards[site][scheme.statistic]) for site in sorted(cards)}


def refuse_cards(scheme: Scheme, fusion: FusionSpec, cards: Cards) -> None:
    """What the teachers' cards tell decides whether the scheme can work.

    Raises:
        StudyError: a site does not tell the number that the scheme needs, or answers binary where soft answers are needed.
    """
    name, field = fusion.weighting, scheme.statistic
    if field in ("n_images", "validation_dice"):
        silent = [
            site for site, card in cards.items() if card[field] is None or (field == "n_images" and not card[field])
        ]
        if silent:
            raise StudyError(
                f'fusion.weighting = "{name}" needs {field} of every site, but {silent} give none (a loaded checkpoint may lack it); '
                'take "uniform", or "fixed" with fusion.weights'
            )
    refuse_binary(scheme, name, [site for site, card in cards.items() if card.get("binary")])


def refuse_binary(scheme: Scheme, name: str, binary: list[str]) -> None:
    """Raise StudyError when the scheme needs soft answers and these sites answer binary."""
    if scheme.soft and binary:
        raise StudyError(
            f'fusion.weighting = "{name}" needs soft answers, but {binary} answer binary, as if never in doubt; '
            'take "majority", "staple" or "median", or let them answer softly (teacher.binary = false)'
        )
