"""Answers that are not the site's own, or not to this question, over a real SuperLink: none is kept, and the ledger tells."""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from flwr.app import RecordDict
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node

from nakt_fed.codec import encode
from nakt_fed.exchange import Reply
from sites.app import content, read
from tests.deployment.compare import oracle_of, stored
from tests.deployment.federation import Federation
from tests.deployment.hospitals import SIZE
from tests.deployment.rogue import Rogue, node_of, replies, rogue, waiting
from tests.deployment.running import Running, Started, answered, lines, wait_for
from tests.deployment.studies import write_study

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(400)]
WHITE = np.full((2, SIZE, SIZE), 255, np.uint8)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, dict[str, Started]]]:
    """ann takes part; bob is registered too, and its key is the rogue's."""
    with Federation(tmp_path_factory.mktemp("forged"), pause=0.5) as federation:
        yield federation, {"coordinator": federation.start_coordinator(), **federation.start_sites("ann")}


@contextmanager
def still(pids: list[int]) -> Iterator[None]:
    """These processes do not move meanwhile."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def study_of_ann(federation: Federation, name: str, seed: int) -> Path:
    return write_study(federation.root, ("ann",), name, pictures=20, seed=seed, round={"in_flight": 4})


def site_of(processes: dict[str, Started]) -> list[int]:
    """Of ann, what could answer."""
    return [*processes["ann"].find("guard.py"), *processes["ann"].find("flwr-clientapp")]


def finish(federation: Federation, running: Running, name: str) -> None:
    """To the masks of the oracle, every chunk answered once, and ann not set aside."""
    running.wait_for_fusion(200)
    assert running.end() == 130
    oracle = oracle_of(federation, name)
    np.testing.assert_array_equal(stored(running.folder)["masks/ann"], stored(oracle)["masks/ann"])
    assert sorted(answered(running.folder)) == [("ann", "transferal", chunk) for chunk in range(10)]
    assert not running.events("warning")


def refused(running: Running) -> list[str]:
    ledger = lines(running.folder / "ledger.jsonl")
    return [line["reason"] for line in ledger if line["outcome"] != "ok"]


def white_masks(node: Rogue, asked: dict[str, Any]) -> RecordDict:
    """As a site would answer that sees a target everywhere; of the question it knows all but the key."""
    replies = []
    for request in read(node.pull(asked["run_id"], asked["message_id"])):
        about = json.loads(request.meta["order"])["meta"]
        meta = {"manifest": about["manifest"], "range": about.get("range")}
        replies.append(Reply(True, meta, encode(WHITE)) if request.kind == "masks" else Reply(True))
    return content(replies)


@contextmanager
def a_question(federation: Federation, processes: dict[str, Started]) -> Iterator[dict[str, Any]]:
    """One for ann, which stands still meanwhile; tried again when it had taken all there were."""
    for _ in range(20):
        with still(site_of(processes)):
            time.sleep(0.5)
            if found := waiting(federation):
                yield found[0]
                return
        time.sleep(0.5)
    pytest.fail("no question waited")


def test_another_registered_site_answers_in_anns_name(parts: tuple[Federation, dict[str, Started]]) -> None:
    """It was told the id of ann's message, which no site can know. Flower then takes the answer; the coordinator does not."""
    federation, processes = parts
    running = federation.run(study_of_ann(federation, "forged", 40))
    running.wait_for_answers(1)
    with rogue(federation, "bob") as bob:
        with a_question(federation, processes) as asked:
            bob.answer(asked, white_masks(bob, asked))
            wait_for(lambda: refused(running), 20, "the refusal")
        finish(federation, running, "forged")
    assert refused(running) == [
        "not_from_site; this answer was not signed with the site's registered key for this question"
    ]


def test_anns_own_answer_is_sent_again_to_another_question(parts: tuple[Federation, dict[str, Started]]) -> None:
    """Recorded on its way, signed by ann, pushed with ann's own key."""
    federation, processes = parts
    running = federation.run(study_of_ann(federation, "replayed", 41))
    running.wait_for_answers(1)
    with rogue(federation, "ann", beside=True) as again:
        with still(processes["coordinator"].find("flwr-serverapp")):
            [reply] = wait_for(lambda: replies(federation), 30, "an answer")[:1]
            recorded = again.pull(reply["run_id"], reply["message_id"]).content
        with a_question(federation, processes) as asked:
            again.answer(asked, recorded)
            wait_for(lambda: refused(running), 30, "the refusal")
        finish(federation, running, "replayed")
    assert len(refused(running)) == 1
    assert refused(running)[0].startswith("not_from_site")


def test_another_registered_site_cannot_take_anns_questions(parts: tuple[Federation, dict[str, Started]]) -> None:
    federation, _ = parts
    with rogue(federation, "bob", beside=True) as bob:
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            bob.client.PullMessages(PullMessagesRequest(node=Node(node_id=node_of(federation, "ann"))))
        bob.client.PullMessages(PullMessagesRequest(node=bob.node))
