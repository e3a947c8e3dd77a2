"""Who has answered which chunk of the transferal set, and what each of them weighs there."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nakt_fed.store import ChunkStore
from nakt_fed.study import FusionSpec
from nakt_fed.weighting import site_weights


@dataclass(frozen=True)
class ChunkSites:
    """The sites of one chunk: `weights` in fixed point, Σ = 65536; `soft`: whether any of them answers softly."""

    weights: Mapping[str, int]
    soft: bool


def sites_of_chunks(
    store: ChunkStore, names: Iterable[str], fusion: FusionSpec, cards: Mapping[str, Mapping[str, Any]]
) -> list[ChunkSites]:
    """Per chunk of the store the sites, out of `names`, that have answered it.

    A chunk's pseudo masks are those of a run with exactly the sites that have answered it: the same scheme of weights over
    them alone, in fixed point again, so that neither order nor grouping of the sites matters (DESIGN §3).

    Raises:
        StudyError: a site does not tell the number that the scheme needs, or all sites of a chunk weigh nothing.
    """
    lacking = {name: set(store.missing(name)) for name in names}
    known: dict[tuple[str, ...], ChunkSites] = {}
    chunks = []
    for number in range(len(store.chunks)):
        here = tuple(name for name in lacking if number not in lacking[name])
        if here not in known:
            own = {name: cards[name] for name in here}
            known[here] = ChunkSites(site_weights(fusion, own), not all(card["binary"] for card in own.values()))
        chunks.append(known[here])
    return chunks


def pictures_answered(store: ChunkStore, names: Iterable[str]) -> dict[str, int]:
    """How many pictures of the set each of these sites has answered; those that have answered none are left out."""
    told = {}
    for name in names:
        lacking = set(store.missing(name))
        told[name] = sum(len(rows) for number, rows in enumerate(store.chunks) if number not in lacking)
    return {name: count for name, count in told.items() if count}
