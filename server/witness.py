"""The coordinator's own receipts: what it asked of each site and what came back, as the sites keep theirs."""

from collections.abc import Iterator, Mapping

from nakt_fed.exchange import Exchange, Request, Sites
from nakt_fed.site.receipts import Receipts


class Witnessed:
    """`Sites`, with a receipt for every exchange before anybody uses the answer."""

    def __init__(self, sites: Sites, receipts: Receipts, run: str) -> None:
        self.names, self._sites, self._receipts, self._run = sites.names, sites, receipts, run

    def arrivals(self) -> Iterator[list[str]]:
        """Who comes, as the sites say it."""
        return self._sites.arrivals()

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        """Carry the requests out."""
        for done in self._sites.exchange(requests):
            request, reply = done.request, done.reply
            self._receipts.append(
                request.kind,
                "ok" if reply.ok else str(reply.meta.get("reason")),
                received=reply.blob,
                sent=request.blob,
                run=self._run,
                picture_set=str(request.meta.get("set", "")),
                manifest=str(request.meta.get("manifest", "")),
                who=done.site,
                reference=str(reply.meta.get("reference", "")),
            )
            yield done
