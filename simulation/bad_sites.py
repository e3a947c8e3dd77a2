"""Sites of which some are broken or hostile: any engine's sites, with the masks of some replaced on their way."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from nakt_fed.attacks import attacked
from nakt_fed.codec import decode, encode
from nakt_fed.exchange import Exchange, Request, Sites


class BadSites:
    """`Sites` around others. `attacks`: site -> name of its attack (`nakt_fed.attacks`); the others' answers pass as they are.

    Every answer in the simulation is under attack, to the transferal set and to the test sets. Sites that collude have one
    seed. A chunk is what an attack sees at once: `shuffled` shuffles within it.
    """

    def __init__(self, sites: Sites, attacks: Mapping[str, str], image_size: int, seed: int = 0) -> None:
        self.sites, self.attacks, self.size, self.seed = sites, dict(attacks), image_size, seed
        self.names = sites.names

    def arrivals(self) -> Iterator[list[str]]:
        """As the sites come."""
        return self.sites.arrivals()

    def exchange(self, requests: Mapping[str, Iterator[Request]]) -> Iterator[Exchange]:
        """As the sites answer, but for the masks of the bad ones."""
        for done in self.sites.exchange(requests):
            bad = done.site in self.attacks and done.request.kind == "masks" and done.reply.ok
            yield self._replaced(done) if bad else done

    def _replaced(self, done: Exchange) -> Exchange:
        start, stop = done.request.meta["range"]
        masks = decode(done.reply.blob, (stop - start, self.size, self.size))
        ids = [f"{done.request.meta['set']} {row}" for row in range(start, stop)]
        sent = attacked(self.attacks[done.site], masks, ids, self.seed)
        return replace(done, reply=replace(done.reply, blob=encode(sent)))
