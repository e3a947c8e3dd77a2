"""Sites that come late, go away, come back or never do; the clock goes on by a tenth of a second with every look at it."""

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.app.error import Error
from flwr.common.constant import ErrorCode

from nakt_fed.events import EventLog, follow
from nakt_fed.exchange import Exchange, Reply, Request
from server import grid as grid_module
from server import presence as presence_module
from server.grid import FlowerSites, with_meta
from server.presence import FAILURES, Presence
from sites.app import content
from tests.server.fake_grid import FakeGrid, Node, offline
from tests.server.test_grid import requests, site


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(presence_module.time, "monotonic", lambda: next(ticks) / 10)
    monkeypatch.setattr(grid_module.time, "sleep", lambda seconds: None)


def asked(
    grid: FakeGrid, here: Callable[[], Mapping[str, int]], patience: float, chunks: int = 3, log: EventLog | None = None
) -> list[Exchange]:
    """Both sites asked for their chunks, two in flight."""
    sites = FlowerSites(grid, Presence(["a", "b"], here, patience, log), 2, 60, with_meta({}))
    return list(sites.exchange({"a": requests(chunks), "b": requests(chunks)}))


def chunks_of(done: list[Exchange], name: str) -> list[int]:
    return [each.request.meta["chunk"] for each in done if each.site == name and each.reply.ok]


def after(looks: int, now: Mapping[str, int], then: Mapping[str, int]) -> Callable[[], Mapping[str, int]]:
    """Who is there: first `now`, from the given look on `then`."""
    seen = count()
    return lambda: then if next(seen) >= looks else now


def failing(times: int, reply: Callable[[Message], Message], then: Node) -> Node:
    """A node whose first answers are something else."""
    left = iter(range(times))
    return lambda message: reply(message) if next(left, None) is not None else then(message)


def refusing(reason: str) -> Callable[[Message], Message]:
    return lambda message: Message(content([Reply(False, {"reason": reason})]), reply_to=message)


def states(log: EventLog) -> Iterator[tuple[str, str, str]]:
    for event in follow(log.path, lambda: True):
        yield event["site"], event["state"], event["reason"]


BOTH = {"a": 1, "b": 2}


def test_a_site_that_comes_late_gets_every_chunk_and_holds_nobody_up() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")})
    done = asked(grid, after(3, {"a": 1}, BOTH), patience=1000)
    assert [each.site for each in done] == ["a", "a", "a", "b", "b", "b"]
    assert chunks_of(done, "a") == chunks_of(done, "b") == [0, 1, 2]


def test_arrivals_come_in_groups_and_the_lost_ones_never() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")})

    def sites(here: Callable[[], Mapping[str, int]]) -> FlowerSites:
        return FlowerSites(grid, Presence(["a", "b"], here, 20.0), 2, 60, with_meta({}))

    assert list(sites(lambda: BOTH).arrivals()) == [["a", "b"]]
    assert list(sites(after(3, {"b": 2}, BOTH)).arrivals()) == [["b"], ["a"]]
    assert list(sites(lambda: {"a": 1}).arrivals()) == [["a"]]


def test_what_a_site_did_not_answer_is_asked_again_when_it_is_back(tmp_path: object) -> None:
    grid = FakeGrid({1: site("a"), 2: failing(2, offline, site("b"))})
    done = asked(grid, lambda: BOTH, patience=1000, chunks=5)
    assert sorted(chunks_of(done, "b")) == [0, 1, 2, 3, 4]
    assert all(each.reply.ok for each in done)


def test_it_may_come_back_as_another_node() -> None:
    grid = FakeGrid({1: site("a"), 2: offline, 7: site("b")})
    done = asked(grid, after(2, BOTH, {"a": 1, "b": 7}), patience=1000)
    assert sorted(chunks_of(done, "b")) == [0, 1, 2]


def test_a_site_that_never_comes_back_is_unreachable_after_its_patience() -> None:
    grid = FakeGrid({1: site("a"), 2: offline})
    done = asked(grid, after(2, BOTH, {"a": 1}), patience=30)
    assert chunks_of(done, "a") == [0, 1, 2]
    refused = [each.reply.meta["reason"] for each in done if each.site == "b"]
    assert refused == ["unreachable"] * 3


def test_a_site_that_fails_again_and_again_while_it_is_there_is_lost_sooner() -> None:
    """Its app ends each time: waiting for twelve hours would not help."""
    grid = FakeGrid({1: site("a"), 2: offline})
    done = asked(grid, lambda: BOTH, patience=1e9)
    assert [each.reply.ok for each in done if each.site == "b"] == [False] * 3
    assert FAILURES < sum(message.metadata.dst_node_id == 2 for message in grid.pushed) < 2 * FAILURES + 4


@pytest.mark.parametrize("reason", ["no_service", "busy", "not_approved", "training", "quota"])
def test_a_site_that_cannot_answer_just_now_is_asked_again(
    reason: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = EventLog(tmp_path_factory.mktemp("run") / "events.jsonl")
    grid = FakeGrid({1: site("a"), 2: failing(3, refusing(reason), site("b"))})
    done = asked(grid, lambda: BOTH, patience=100_000, log=log)
    assert sorted(chunks_of(done, "b")) == [0, 1, 2]
    told = [(state, why) for name, state, why in states(log) if name == "b"]
    assert told[:3] == [("connected", ""), ("waiting", reason), ("connected", "")]


def test_a_refusal_that_waiting_does_not_change_is_passed_on_at_once() -> None:
    grid = FakeGrid({1: site("a"), 2: refusing("expired")})
    done = asked(grid, lambda: BOTH, patience=1000)
    assert [each.reply.meta["reason"] for each in done if each.site == "b"] == ["expired"] * 3
    assert len(grid.pushed) == 6


@pytest.mark.slow
def test_every_question_is_answered_once_whatever_happens() -> None:
    """In any mixture of absences, a caller gets each of its requests back exactly once."""
    for seed in range(20):
        grid = FakeGrid({1: failing(seed % 5, offline, site("a")), 2: failing(seed % 7, refusing("busy"), site("b"))})
        done = asked(grid, after(seed % 4, {"b": 2}, BOTH), patience=100_000, chunks=6)
        for name in ("a", "b"):
            assert sorted(each.request.meta["chunk"] for each in done if each.site == name) == list(range(6))


def test_nothing_is_asked_of_nobody() -> None:
    grid = FakeGrid({1: site("a")})
    sites = FlowerSites(grid, Presence(["a"], lambda: {"a": 1}, 0.0), 2, 60, with_meta({}))
    assert list(sites.exchange({"a": iter(list[Request]())})) == []


def test_what_is_asked_again_is_signed_anew_and_for_its_site() -> None:
    """An order that was made before a long pause would be refused as stale."""
    number = count()
    grid = FakeGrid({1: failing(2, refusing("not_approved"), site("a"))})
    presence = Presence(["a"], lambda: {"a": 1}, 1000)
    sites = FlowerSites(grid, presence, 1, 60, lambda name, request: {"for": name, "stamp": next(number)})
    (done,) = sites.exchange({"a": requests(1)})
    assert done.reply.meta["asked"] == {"for": "a", "stamp": 2}
    assert done.request.meta == {"chunk": 0}


def test_an_app_that_flower_did_not_let_in_is_named_and_waited_for(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    refused = lambda message: Message(Error(ErrorCode.INVALID_FAB, "not verified"), reply_to=message)  # noqa: E731
    grid = FakeGrid({1: failing(2, refused, site("a")), 2: site("b")})
    done = asked(grid, lambda: BOTH, patience=1000, log=log)
    assert sorted(chunks_of(done, "a")) == chunks_of(done, "b") == [0, 1, 2]
    assert ("a", "waiting", "app_not_approved") in states(log)
