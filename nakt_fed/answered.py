"""Who has answered which chunk of the transferal set, and how their answers are combined there."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nakt_fed.errors import StudyError
from nakt_fed.nakt import Masks
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import ChunkStore
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings.bound import Combiner


@dataclass(frozen=True)
class StoredAnswers:
    """What these sites have answered, chunk by chunk (`weightings.scheme.Stored`)."""

    store: ChunkStore
    sites: Sequence[str]
    tests: Mapping[str, SharedSet]
    annotated_set: str | None

    def _answered(self) -> list[int]:
        lacking = {number for site in self.sites for number in self.store.missing(site)}
        return sorted(set(range(len(self.store.chunks))) - lacking)

    def chunks(self) -> Iterator[dict[str, Masks]]:
        """Of the transferal set, those that all of them have answered."""
        for number in self._answered():
            yield {site: self.store.read(site, number) for site in self.sites}

    def originals(self, count: int) -> Iterator[dict[str, Masks]]:
        """The same of the first `count` pictures only: the originals, which come before their views."""
        for number in self._answered():
            here = count - number * self.store.chunk
            if here > 0:
                yield {site: self.store.read(site, number)[:here] for site in self.sites}

    def annotated(self) -> Iterator[tuple[dict[str, Masks], Masks]]:
        """The annotated set with its truth.

        Raises:
            StudyError: a site has not answered it.
        """
        shared = self.tests[self.annotated_set or ""]
        silent = [site for site in self.sites if shared.masks.missing(site)]
        if silent:
            raise StudyError(
                f"the sites {silent} have not answered the annotated set {self.annotated_set!r}, so they cannot be weighed by it; "
                'set round.unfinished = "drop", or take another weighting'
            )
        truth = shared.truth
        for number, rows in enumerate(shared.masks.chunks):
            yield {site: shared.masks.read(site, number) for site in self.sites}, truth[rows.start : rows.stop]


class Combiners:
    """The study's way of combining, for any of the sites that have answered: a `Combiner` per set of sites."""

    def __init__(
        self,
        fusion: FusionSpec,
        cards: Mapping[str, Mapping[str, Any]],
        store: ChunkStore,
        tests: Mapping[str, SharedSet] | None = None,
        seed: int = 0,
    ) -> None:
        self.fusion, self.cards, self.store, self.tests, self.seed = fusion, cards, store, tests or {}, seed
        self._known: dict[tuple[str, ...], Combiner] = {}

    def of(self, names: Iterable[str]) -> Combiner:
        """Raises StudyError: a site does not tell what the scheme needs."""
        sites = tuple(sorted(names))
        if sites not in self._known:
            stored = StoredAnswers(self.store, sites, self.tests, self.fusion.annotated)
            cards = {site: self.cards[site] for site in sites}
            self._known[sites] = Combiner(self.fusion, cards, lambda: stored, self.seed)
        return self._known[sites]


@dataclass(frozen=True)
class ChunkSites:
    """The sites of one chunk: `combine` makes pseudo masks of their answers; `soft`: whether any of them answers softly."""

    combine: Combiner
    soft: bool

    @property
    def names(self) -> tuple[str, ...]:
        return self.combine.sites


def sites_of_chunks(store: ChunkStore, names: Iterable[str], combiners: Combiners) -> list[ChunkSites]:
    """Per chunk of the store the sites, out of `names`, that have answered it.

    A chunk's pseudo masks are those of a run with exactly the sites that have answered it: the same scheme over them alone,
    in fixed point again, so that neither order nor grouping of the sites matters (DESIGN §3).

    Raises:
        StudyError: a site does not tell the number that the scheme needs, or all sites of a chunk weigh nothing.
    """
    lacking = {name: set(store.missing(name)) for name in names}
    known: dict[tuple[str, ...], ChunkSites] = {}
    chunks = []
    for number in range(len(store.chunks)):
        here = tuple(name for name in lacking if number not in lacking[name])
        if here not in known:
            combine = combiners.of(here)
            assert combine.mark  # weights that cannot be are found before anything is fused
            known[here] = ChunkSites(combine, not all(combiners.cards[name]["binary"] for name in here))
        chunks.append(known[here])
    return chunks


def counted_sites(
    store: ChunkStore, names: Iterable[str], set_aside: Iterable[str], unfinished: Iterable[str], cards: Iterable[str]
) -> list[str]:
    """The sites in the pseudo masks: those that were not set aside, and of the `unfinished` that have a card those that have answered some."""
    partly = pictures_answered(store, set(unfinished) & set(cards))
    return [name for name in names if name not in set(set_aside) or name in partly]


def pictures_answered(store: ChunkStore, names: Iterable[str]) -> dict[str, int]:
    """How many pictures of the set each of these sites has answered; those that have answered none are left out."""
    told = {}
    for name in names:
        lacking = set(store.missing(name))
        told[name] = sum(len(rows) for number, rows in enumerate(store.chunks) if number not in lacking)
    return {name: count for name, count in told.items() if count}
