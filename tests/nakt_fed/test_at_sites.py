"""The student judged at the sites: only numbers in range come back, everything else counts as a refusal."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nakt_fed.at_sites import judged_at_sites
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.ledger import Ledger
from nakt_fed.recipe import NetworkSpec

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


def judged(tmp_path: Path, **replies: Reply) -> tuple[dict[str, dict[str, Any]], Telling, Ledger]:
    (tmp_path / "student.safetensors").write_bytes(b"weights")
    sites, ledger = Telling(replies), Ledger(tmp_path / "ledger.jsonl")
    network = NetworkSpec(network="unet", width=4)
    return judged_at_sites(sites, sites.names, tmp_path / "student.safetensors", network, ledger), sites, ledger


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
