"""What the gate lets through of a picture set: its offer, its pictures, its masks."""

from typing import Any

from nakt_fed.errors import DataError
from nakt_fed.exchange import Reply, Request
from nakt_fed.manifest import Manifest
from nakt_fed.site.approvals import Admit
from nakt_fed.site.cache import Handler
from nakt_fed.site.gate_state import Offers
from nakt_fed.site.orders import SAME, About, Refusal, read_offer
from nakt_fed.site.policy import Policy
from nakt_fed.site.quota import Quota


class SetRules:
    """A set is offered by its manifest first; what was accepted is remembered over a restart."""

    def __init__(self, policy: Policy, inner: Handler, offers: Offers, quota: Quota, admit: Admit) -> None:
        self.policy, self.inner, self.offers, self.quota, self.admit = policy, inner, offers, quota, admit

    def offer(self, request: Request, about: About) -> Reply:
        offer = read_offer(request.meta)
        about.tell(offer.set, offer.manifest, offer.pictures)
        if offer.pictures > self.policy.pictures_per_set:
            most = self.policy.pictures_per_set
            raise Refusal("too_many_pictures", f"{offer.pictures} pictures in a set; this site answers at most {most}")
        manifest = _manifest(request.blob)
        if (manifest.sha256, len(manifest)) != (offer.manifest, offer.pictures):
            raise Refusal("wrong_order", "the signed order is about another manifest than the one that came with it")
        self.admit(about.run, offer.pictures, offer.set)
        self.quota.offer(offer.manifest)
        reply = self.inner.handle(request)
        if not reply.ok:
            return reply
        self.offers.accept(offer.manifest, offer.set, offer.chunk, len(manifest), manifest.originals)
        return Reply(True, coarse(reply.meta, manifest.originals, self.policy.min_pictures))

    def _offered(self, request: Request, about: About) -> dict[str, Any]:
        """The accepted offer that a request for pictures or masks is about."""
        name, picture_set = request.meta.get("manifest"), request.meta.get("set")
        offer = self.offers.find(name, picture_set)
        if offer is None:
            raise Refusal("not_offered", "this manifest was not offered to this site, or not accepted; offer it first")
        about.tell(str(picture_set), str(name))
        self.admit(about.run, offer["pictures"], str(picture_set))
        return offer

    def pictures(self, request: Request, about: About) -> Reply:
        offer, chunk = self._offered(request, about), request.meta.get("chunk")
        if type(chunk) is not int or not 0 <= chunk * offer["chunk"] < offer["originals"]:
            raise Refusal("bad_request", "the chunk of pictures is none of the manifest's")
        about.pictures = min(offer["chunk"], offer["originals"] - chunk * offer["chunk"])
        return self.inner.handle(request)

    def masks(self, request: Request, about: About) -> Reply:
        offer = self._offered(request, about)
        start, stop = _range(request.meta.get("range"), offer["pictures"])
        about.pictures = stop - start
        if stop - start > offer["chunk"]:
            raise Refusal("too_large", f"{stop - start} masks at once; the offer says {offer['chunk']}")
        with self.quota.masks(self.offers, about.manifest, start, stop) as count:
            reply = self.inner.handle(request)
            if reply.ok:
                count()
        return reply


def coarse(meta: dict[str, Any], originals: int, least: int) -> dict[str, Any]:
    """An accepted offer's answer, its overlap told so that it says little of any single picture: not at all of a set of
    fewer than `least` pictures, and otherwise rounded down to a multiple of `least`."""
    told = {key: value for key, value in meta.items() if key != "overlap"}
    return told if originals < least else {**told, "overlap": meta["overlap"] // least * least}


def _manifest(blob: bytes) -> Manifest:
    try:
        return Manifest.from_json(blob)
    except DataError:
        raise Refusal("bad_data", f"the offer holds no manifest that this nakt-fed knows; {SAME}") from None


def _range(value: Any, count: int) -> tuple[int, int]:
    if isinstance(value, list) and len(value) == 2 and all(type(item) is int for item in value):
        start, stop = value
        if 0 <= start < stop <= count:
            return start, stop
    raise Refusal("bad_request", f"the range of masks is not two places within the {count} pictures of the set")
