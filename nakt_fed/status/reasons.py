"""Why a site does not answer: the reason codes of sites and engines in plain words, each with its remedy."""

import re

WAITS = {
    "not_approved": ("waiting for approval", "Someone at {site} has to approve this run: nakt site approve SITE_FILE {run}"),
    "app_not_approved": ("does not run this app", "Someone at {site} has to compare policy.apps in its site file with `nakt coordinator app`"),
    "quota": ("has answered enough for today", "It goes on tomorrow (UTC), or with a higher pictures_per_day in its site file"),
    "training": ("fine-tunes the student", "It learns from the site's own pictures"),
    "busy": ("busy", "It works on another request and is asked again in a moment"),
    "no_service": ("teacher service is down", "Someone at {site} has to start it: nakt site start"),
}  # fmt: skip
"""Why a site that is connected cannot answer just now, and what to do."""
REASONS = {
    "unreachable": "it could not be reached",
    "bad_reply": "its answer could not be read: run the same nakt-fed there and here",
    "not_from_site": "an answer in its name was not signed with its key: somebody else gave it, or its SuperNode was not started by nakt-fed",
    "bad_answer": "its answer was no usable set of masks",
    "not_signed": "it trusts another coordinator key: compare coordinator.pub there with the one of the coordinator's kit",
    "wrong_order": "it refused an order that does not fit the request: run the same nakt-fed there and here",
    "wrong_site": "it has another name in its site.toml than in the federation file: site.name has to be the same",
    "stale_order": "its clock and the coordinator's differ, or an order was held up: check the clocks of both machines",
    "expired": "its policy's end date is past: the hospital has to set a later one",
    "too_many_pictures": "its policy allows fewer pictures in one set: ask for fewer, or the hospital raises pictures_per_set",
    "approval_withdrawn": "the hospital has withdrawn its approval of this run: what was begun there is dropped",
    "training_failed": "fine-tuning the student failed there; its own errors.jsonl has the reason",
    "disk_full": "the site's disk is full",
    "no_answer": "its teacher service did not answer in time",
    "internal": "something failed at the site; its own errors.jsonl has the reason",
}


def in_words(reason: str) -> str:
    """A reason code with what follows it, as a sentence; other words stay as they are."""
    code = reason.partition(";")[0].partition(",")[0]
    if code not in REASONS:
        return reason
    reference = re.search(r"reference (\w+)", reason)
    return REASONS[code] + (f" (reference {reference[1]})" if reference else "")
