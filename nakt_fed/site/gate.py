"""The policy gate: what a site answers, decided before a picture is looked at, and a receipt for every request."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nakt_fed.errors import DataError
from nakt_fed.exchange import Reply, Request
from nakt_fed.manifest import Manifest
from nakt_fed.signing import Now, utc_now
from nakt_fed.site.approvals import FOLDER, Approvals
from nakt_fed.site.cache import Handler
from nakt_fed.site.gate_state import Offers
from nakt_fed.site.orders import SAME, Refusal, failed, opened, read_offer
from nakt_fed.site.personal_order import read_order, refuse_beyond
from nakt_fed.site.personal_runs import PersonalRuns
from nakt_fed.site.quota import Quota
from nakt_fed.site.receipts import FILE, Receipts
from nakt_fed.site.site_file import SiteFile


@dataclass
class About:
    """What the receipt says of a request: only what a signed order says, or an offer that was accepted."""

    run: str = ""
    picture_set: str = ""
    manifest: str = ""
    pictures: int = 0

    def tell(self, picture_set: str, manifest: str, pictures: int = 0) -> None:
        self.picture_set, self.manifest, self.pictures = picture_set, manifest, pictures


class Gate:
    """Lets through what the site file's policy allows; the rest is refused with a reason code.

    What it has to remember lies in the site's own folder: a service that is killed and started again goes on.
    """

    def __init__(self, file: SiteFile, inner: Handler, now: Now = utc_now) -> None:
        self.folder, self.policy, self.inner, self.now = file.site.folder, file.policy, inner, now
        self.site = file.site.name
        self.coordinator, self.key = file.coordinator.address, file.coordinator.public_key
        self.approvals, self.receipts = Approvals(self.folder), Receipts(self.folder / FILE)
        state = self.folder / FOLDER
        self.offers, self.quota = Offers(state), Quota(state, self.policy, lambda: self.now().date())
        self.personal = PersonalRuns(self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def handle(self, request: Request) -> Reply:
        """Answer, or refuse; whatever comes, it does not raise. No answer leaves without its receipt."""
        about = About()
        try:
            reply = self._decided(request, about)
        except Refusal as refusal:
            reply = refusal.reply()
        except Exception as error:  # the site's boundary: the text may hold paths or names
            reply = failed(self.folder, str(request.kind)[:40], error)
        try:
            self._note(request, reply, about)
        except Exception as error:
            return failed(self.folder, str(request.kind)[:40], error)
        return reply

    def _note(self, request: Request, reply: Reply, about: About) -> None:
        outcome = "ok" if reply.ok else str(reply.meta.get("reason"))
        kind = request.kind if request.kind in self._kinds else "unknown"
        told = {**vars(about), "who": self.coordinator, "reference": str(reply.meta.get("reference", ""))}
        self.receipts.append(kind, outcome, request.blob, reply.blob, **told)

    @property
    def _kinds(self) -> dict[str, Callable[[Request, About], Reply]]:
        return {
            "hello": self._pass,
            "prepare": self._pass,
            "offer": self._offer,
            "pictures": self._pictures,
            "masks": self._masks,
            "evaluate": self._evaluate,
            "personalise": self._personalise,
            "app": self._app,
        }

    def _decided(self, request: Request, about: About) -> Reply:
        if request.kind not in self._kinds:
            raise Refusal("bad_request", f"this site does not know this kind of request; {SAME}")
        if request.kind != "app":  # that is asked by this site's own SuperNode
            request, about.run = opened(request, self.key, self.site, self.now())
        last = self.policy.expires
        if last is not None and self.now().date() > last and request.kind not in ("hello", "app"):
            raise Refusal("expired", f"this site answered until {last}; ask the hospital for a new date")
        return self._kinds[request.kind](request, about)

    def _app(self, request: Request, about: About) -> Reply:
        if hashlib.sha256(request.blob).hexdigest() not in self.policy.apps:
            text = "this site runs no app but those in policy.apps of its site file; see `nakt coordinator app`"
            raise Refusal("app_not_approved", text)
        return Reply(True)

    def _pass(self, request: Request, about: About) -> Reply:
        return self.inner.handle(request)

    def _approved(self, run: str, pictures: int, picture_set: str) -> None:
        if self.policy.approval == "automatic" or self.approvals.is_approved(run):
            return
        self.approvals.wait(run, coordinator=self.coordinator, pictures=pictures, picture_set=picture_set)
        raise Refusal("not_approved", f"run {run} waits until the hospital's operator approves it (nakt site approve)")

    def _offer(self, request: Request, about: About) -> Reply:
        offer = read_offer(request.meta)
        about.tell(offer.set, offer.manifest, offer.pictures)
        if offer.pictures > self.policy.pictures_per_set:
            most = self.policy.pictures_per_set
            raise Refusal("too_many_pictures", f"{offer.pictures} pictures in a set; this site answers at most {most}")
        manifest = _manifest(request.blob)
        if (manifest.sha256, len(manifest)) != (offer.manifest, offer.pictures):
            raise Refusal("wrong_order", "the signed order is about another manifest than the one that came with it")
        self._approved(about.run, offer.pictures, offer.set)
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
        self._approved(about.run, offer["pictures"], str(picture_set))
        return offer

    def _pictures(self, request: Request, about: About) -> Reply:
        offer, chunk = self._offered(request, about), request.meta.get("chunk")
        if type(chunk) is not int or not 0 <= chunk * offer["chunk"] < offer["originals"]:
            raise Refusal("bad_request", "the chunk of pictures is none of the manifest's")
        about.pictures = min(offer["chunk"], offer["originals"] - chunk * offer["chunk"])
        return self.inner.handle(request)

    def _masks(self, request: Request, about: About) -> Reply:
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

    def _evaluate(self, request: Request, about: About) -> Reply:
        student = hashlib.sha256(request.blob).hexdigest()
        if not self.policy.evaluate_student:
            raise Refusal("no_evaluation", "this site's policy does not let a student be evaluated here")
        self._approved(about.run, 0, "evaluation")
        known = self.quota.student(student)
        reply = Reply(True, known) if known else self.inner.handle(request)
        if not reply.ok:
            return reply
        if reply.meta["n"] < self.policy.min_evaluated:
            raise Refusal("too_few_images", "this site has too few annotated pictures to judge a student")
        self.quota.answered(student, reply.meta)
        return reply

    def _personalise(self, request: Request, about: About) -> Reply:
        if not self.policy.personalise_student:
            raise Refusal("no_personalisation", "this site's policy does not let a student be fine-tuned here")
        order = read_order(request.meta)
        refuse_beyond(order.recipe, self.policy)
        if self.approvals.is_withdrawn(about.run):
            text = "the hospital's operator has withdrawn the approval of this run; nothing of the student was kept"
            raise Refusal("approval_withdrawn", text)
        self._approved(about.run, 0, "personalisation")
        if request.blob:  # without one, nothing is begun that was not counted
            self.quota.training(order.key)
        self.personal.note(order.key, about.run, new=bool(request.blob))
        reply = self.inner.handle(request)
        if reply.meta.get("n", self.policy.min_evaluated) < self.policy.min_evaluated:
            raise Refusal("too_few_images", "this site has too few annotated pictures to judge a student")
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
