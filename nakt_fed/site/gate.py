"""The policy gate: what a site answers, decided before a picture is looked at, and a receipt for every request."""

import hashlib
from collections.abc import Callable

from nakt_fed.exchange import Reply, Request
from nakt_fed.signing import Now, utc_now
from nakt_fed.site.approvals import FOLDER, Approvals
from nakt_fed.site.cache import Handler
from nakt_fed.site.failures import failed
from nakt_fed.site.gate_sets import SetRules
from nakt_fed.site.gate_state import Offers
from nakt_fed.site.gate_students import StudentRules
from nakt_fed.site.orders import SAME, About, Refusal, opened
from nakt_fed.site.policy import is_over
from nakt_fed.site.quota import Quota
from nakt_fed.site.receipts import FILE, Receipts
from nakt_fed.site.site_file import SiteFile


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
        quota = Quota(state, self.policy, lambda: self.now().date())
        self.sets = SetRules(self.policy, inner, Offers(state), quota, self._admit)
        self.students = StudentRules(self.policy, inner, quota, self.approvals, self._admit)
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
            "offer": self.sets.offer,
            "pictures": self.sets.pictures,
            "masks": self.sets.masks,
            "evaluate": self.students.evaluate,
            "personalise": self.students.personalise,
            "app": self._app,
        }

    def _decided(self, request: Request, about: About) -> Reply:
        if request.kind not in self._kinds:
            raise Refusal("bad_request", f"this site does not know this kind of request; {SAME}")
        if request.kind != "app":  # that is asked by this site's own SuperNode
            request, about.run = opened(request, self.key, self.site, self.now())
        last = self.policy.expires
        if is_over(last, self.now()) and request.kind not in ("hello", "app"):
            raise Refusal("expired", f"this site answered until {last}; ask the hospital for a new date")
        return self._kinds[request.kind](request, about)

    def _app(self, request: Request, about: About) -> Reply:
        if hashlib.sha256(request.blob).hexdigest() not in self.policy.apps:
            text = "this site runs no app but those in policy.apps of its site file; see `nakt coordinator app`"
            raise Refusal("app_not_approved", text)
        return Reply(True)

    def _pass(self, request: Request, about: About) -> Reply:
        return self.inner.handle(request)

    def _admit(self, run: str, pictures: int, picture_set: str) -> None:
        """Raises Refusal: the run is not approved, or no longer."""
        automatic = self.policy.approval == "automatic"
        if self.approvals.is_approved(run) or (automatic and not self.approvals.is_withdrawn(run)):
            return
        self.approvals.wait(run, coordinator=self.coordinator, pictures=pictures, picture_set=picture_set)
        raise Refusal("not_approved", f"run {run} waits until the hospital's operator approves it (nakt site approve)")
