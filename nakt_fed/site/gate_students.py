"""What the gate lets through of a student: to be judged, or to be fine-tuned, on private pictures."""

import hashlib
from collections.abc import Mapping
from typing import Any

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.approvals import Admit, Approvals
from nakt_fed.site.cache import Handler
from nakt_fed.site.orders import About, Refusal
from nakt_fed.site.personal_order import read_order, refuse_beyond
from nakt_fed.site.personal_runs import PersonalRuns
from nakt_fed.site.policy import Policy
from nakt_fed.site.quota import Quota


class StudentRules:
    """Only means over enough pictures leave, for a few students a day."""

    def __init__(self, policy: Policy, inner: Handler, quota: Quota, approvals: Approvals, admit: Admit) -> None:
        self.policy, self.inner, self.quota, self.admit = policy, inner, quota, admit
        self.approvals, self.personal = approvals, PersonalRuns(approvals.folder)

    def evaluate(self, request: Request, about: About) -> Reply:
        student = hashlib.sha256(request.blob).hexdigest()
        if not self.policy.evaluate_student:
            raise Refusal("no_evaluation", "this site's policy does not let a student be evaluated here")
        self.admit(about.run, 0, "evaluation")
        known = self.quota.student(student)
        reply = Reply(True, known) if known else self.inner.handle(request)
        if not reply.ok:
            return reply
        if any(score.get("n", 0) < self.policy.min_evaluated for score in _told(reply.meta)):
            raise Refusal("too_few_images", "this site has too few annotated pictures to judge a student")
        self.quota.answered(student, reply.meta)
        return reply

    def personalise(self, request: Request, about: About) -> Reply:
        if not self.policy.personalise_student:
            raise Refusal("no_personalisation", "this site's policy does not let a student be fine-tuned here")
        order = read_order(request.meta)
        refuse_beyond(order.recipe, self.policy)
        if self.approvals.is_withdrawn(about.run):
            text = "the hospital's operator has withdrawn the approval of this run; nothing of the student was kept"
            raise Refusal("approval_withdrawn", text)
        self.admit(about.run, 0, "personalisation")
        if request.blob:  # without one, nothing is begun that was not counted
            self.quota.training(order.key)
        self.personal.note(order.key, about.run, new=bool(request.blob))
        reply = self.inner.handle(request)
        if reply.meta.get("n", self.policy.min_evaluated) < self.policy.min_evaluated:
            raise Refusal("too_few_images", "this site has too few annotated pictures to judge a student")
        return reply


def _told(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scores in an answer, by class or not; a class that is refused has none."""
    return [score for score in meta.get("classes", {"": meta}).values() if "refused" not in score]
