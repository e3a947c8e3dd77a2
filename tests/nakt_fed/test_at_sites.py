"""The student judged at the sites: only numbers in range come back, everything else counts as a refusal."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from nakt_fed.at_sites import judged_at_sites, personalised_at_sites
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.ledger import Ledger
from nakt_fed.recipe import NetworkSpec, Recipe

GOOD = {"n": 12, "student": {"mean": 0.7, "std": 0.1}, "teacher": {"mean": 0.6, "std": 0.2}}


class Telling:
    """Sites that answer as they are told to."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies, self.names = dict(replies), list(replies)
        self.asked: list[Request] = []

    def arrivals(self) -> Iterator[list[str]]:
        yield self.names

    def exchange(self, requests: Mapping[str, Iterator[Request]]) -> Iterator[Exchange]:
        for name in reversed(list(requests)):
            for request in requests[name]:
                self.asked.append(request)
                yield Exchange(name, request, self.replies[name], 0.1)


def judged(
    tmp_path: Path, asked: Mapping[str, list[str]] = MappingProxyType({}), **replies: Reply
) -> tuple[dict[str, dict[str, Any]], Telling, Ledger]:
    (tmp_path / "student.safetensors").write_bytes(b"weights")
    sites, ledger = Telling(replies), Ledger(tmp_path / "ledger.jsonl")
    network = NetworkSpec(network="unet", width=4)
    told = judged_at_sites(sites, sites.names, tmp_path / "student.safetensors", network, ledger, asked)
    return told, sites, ledger


def test_scores_come_back_in_the_order_of_the_study_and_are_in_the_ledger(tmp_path: Path) -> None:
    told, sites, ledger = judged(tmp_path, a=Reply(True, GOOD), b=Reply(False, {"reason": "no_evaluation"}))
    assert list(told.items()) == [("a", GOOD), ("b", {"refused": "no_evaluation"})]
    assert sites.asked[0].blob == b"weights"
    assert sites.asked[0].meta["network"]["network"] == "unet"
    lines = {line["site"]: line for line in ledger.lines()}
    assert (lines["a"]["outcome"], lines["a"]["pictures"]) == ("ok", 12)
    assert (lines["b"]["outcome"], lines["b"]["reason"]) == ("failed", "no_evaluation")


@pytest.mark.parametrize(
    "meta",
    [{}, {**GOOD, "names": ["x"]}, {**GOOD, "n": 0}, {**GOOD, "student": {"mean": 1.5, "std": 0}}, {**GOOD, "n": "many"}],
)  # fmt: skip
def test_what_is_no_score_is_not_believed(tmp_path: Path, meta: dict[str, Any]) -> None:
    told, _, _ = judged(tmp_path, a=Reply(True, meta))
    assert told == {"a": {"refused": "bad_reply"}}


ASKED = {"a": ["lesion"], "b": ["nodule", "lesion"], "c": ["nodule"]}
FEW = {"refused": "too_few_images"}


def test_of_several_classes_each_comes_back_under_its_title(tmp_path: Path) -> None:
    both, other = Reply(True, {"classes": {"nodule": GOOD, "lesion": FEW}}), {**GOOD, "n": 10}
    replies = {
        "a": Reply(True, {"classes": {"lesion": other}}),
        "b": both,
        "c": Reply(False, {"reason": "no_evaluation"}),
    }
    told, sites, ledger = judged(tmp_path, ASKED, **replies)
    assert list(told.items()) == [
        ("a:lesion", other), ("b:lesion", FEW), ("b:nodule", GOOD), ("c", {"refused": "no_evaluation"})
    ]  # fmt: skip
    assert [request.meta["classes"] for request in sites.asked] == 3 * [["lesion", "nodule"]]
    lines = {line["site"]: (line["outcome"], line["pictures"]) for line in ledger.lines()}
    assert lines == {"a": ("ok", 10), "b": ("ok", 12), "c": ("failed", 0)}


@pytest.mark.parametrize(
    "meta",
    [
        GOOD,
        {"classes": {}},
        {"classes": {"nodule": GOOD}},
        {"classes": {"lesion": GOOD, "nodule": GOOD}},
        {"classes": {"lesion": {**GOOD, "n": 0}}},
        {"classes": {"lesion": {"refused": "<script>"}}},
        {"classes": {"lesion": GOOD}, "n": 12},
        {"classes": [GOOD]},
    ],
)
def test_a_site_is_believed_of_the_classes_that_it_was_asked_for(tmp_path: Path, meta: dict[str, Any]) -> None:
    told, _, ledger = judged(tmp_path, ASKED, a=Reply(True, meta))
    assert told == {"a": {"refused": "bad_reply"}}
    assert [line["reason"] for line in ledger.lines()] == ["bad_reply"]


PERSONAL = {**GOOD, "personalised": {"mean": 0.8, "std": 0.1}}
WANTS, TAKEN = Reply(False, {"reason": "send_student"}), Reply(True, {"taken": True})


class Talking(Telling):
    """Sites that give one reply after the other; `mixed`: a site's next order waits until all have answered."""

    def __init__(self, replies: Mapping[str, list[Reply]]) -> None:
        self.said, self.names = {name: list(each) for name, each in replies.items()}, list(replies)
        self.asked = []

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        waiting = dict(requests)
        while waiting:
            taken = [(name, next(questions, "over")) for name, questions in waiting.items()]
            for name, request in taken:
                if request == "over":
                    del waiting[name]
            for name, request in taken:
                if isinstance(request, Request):
                    self.asked.append(request)
                    yield Exchange(name, request, self.said[name].pop(0), 0.1)


def personalised(tmp_path: Path, **replies: list[Reply]) -> tuple[dict[str, dict[str, Any]], Talking, Ledger]:
    path, sites, ledger = tmp_path / "student.safetensors", Talking(replies), Ledger(tmp_path / "ledger.jsonl")
    path.write_bytes(b"weights")
    network = NetworkSpec(network="unet", width=4)
    return personalised_at_sites(sites, sites.names, path, network, Recipe(), ledger), sites, ledger


def test_the_student_goes_only_to_a_site_that_needs_it(tmp_path: Path) -> None:
    told, sites, ledger = personalised(
        tmp_path, new=[WANTS, TAKEN, Reply(True, PERSONAL)], known=[Reply(True, PERSONAL)], no=[Reply(False, {"reason": "no_personalisation"})]
    )  # fmt: skip
    assert told == {"new": PERSONAL, "known": PERSONAL, "no": {"refused": "no_personalisation"}}
    assert sorted(request.blob for request in sites.asked) == [b"", b"", b"", b"", b"weights"]
    assert all(request.meta == sites.asked[0].meta for request in sites.asked), "it is one order"
    assert sum(line["bytes_out"] for line in ledger.lines()) == len(b"weights")


@pytest.mark.parametrize(
    "replies",
    [
        [WANTS, WANTS],
        [TAKEN],
        [WANTS, TAKEN, TAKEN],
        [WANTS, TAKEN, WANTS],
        [Reply(True, GOOD)],
        [Reply(True, {**PERSONAL, "names": ["x"]})],
    ],
)
def test_a_site_that_goes_round_in_circles_is_left_alone(tmp_path: Path, replies: list[Reply]) -> None:
    told, sites, _ = personalised(tmp_path, a=replies)
    assert told["a"].keys() == {"refused"}
    assert not sites.said["a"]
