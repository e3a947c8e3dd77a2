"""Several requests in one message: Flower starts a process per message, so a message is worth filling."""

from collections.abc import Iterator

import pytest
from flwr.app import Context, Message, RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

import sites.app
from nakt_fed.exchange import Exchange, Reply, Request
from server import grid as grid_module
from server import line
from server.grid import FlowerSites, with_meta
from server.presence import Presence
from sites.app import answers, content, read
from tests.server.fake_grid import FakeGrid, Node, be_a_task, offline

HERE = Context(run_id=1, node_id=5, node_config={}, state=RecordDict(), run_config={})


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "LONGEST_PAUSE", 0.0)


def site(enough: list[int] | None = None) -> Node:
    """Gives each blob back; of its n-th message it answers the first `enough[n]` requests, then all."""
    most = iter(enough or [])

    def answer(message: Message) -> Message:
        asked = read(message)
        return Message(
            content([Reply(True, each.meta, each.blob) for each in asked[: next(most, None)]]), reply_to=message
        )

    return answer


def chunks(count: int, size: int = 0) -> Iterator[Request]:
    yield from (Request("pictures", {"chunk": number}, bytes([number % 256]) * size) for number in range(count))


def asked(grid: FakeGrid, requests: Iterator[Request], in_flight: int = 1, share: int = 4) -> list[Exchange]:
    presence = Presence(["a"], lambda: {"a": 1}, 0.0)
    return list(FlowerSites(grid, presence, in_flight, 60, with_meta({}), share).exchange({"a": requests}))


def shares(grid: FakeGrid) -> list[list[int]]:
    return [[each.meta["chunk"] for each in read(message)] for message in grid.pushed]


def test_a_message_is_filled_up_and_every_blob_stays_with_its_request() -> None:
    grid = FakeGrid({1: site()})
    done = asked(grid, chunks(10, size=3))
    assert shares(grid) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert all(each.reply == Reply(True, each.request.meta, each.request.blob) for each in done)


def test_a_message_has_so_many_bytes_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "MESSAGE_BYTES", 100)
    grid = FakeGrid({1: site()})
    asked(grid, iter([*chunks(3, size=40), Request("pictures", {"chunk": 3}, b"x" * 500), *chunks(1)]))
    assert shares(grid) == [[0, 1], [2], [3], [0]]


def test_a_message_takes_pictures_out_and_asks_for_masks_behind_them() -> None:
    """What a site does not get to is asked again, and pictures should not travel twice."""
    grid = FakeGrid({1: site()})
    asked(grid, iter([*chunks(1, size=3), Request("masks", {"chunk": 7}), *chunks(2, size=3)]), share=4)
    assert [(each.kind, each.meta["chunk"]) for each in read(grid.pushed[0])] == [
        ("pictures", 0),
        ("pictures", 0),
        ("pictures", 1),
        ("masks", 7),
    ]


def both(number: int) -> Request:
    return Request("pictures", {"chunk": number}, b"four", Request("masks", {"chunk": number}))


def asked_kinds(grid: FakeGrid) -> list[str]:
    """Per message, such as "p0 p1 m0 m1"."""
    return [" ".join(f"{each.kind[0]}{each.meta['chunk']}" for each in read(message)) for message in grid.pushed]


def test_masks_are_asked_behind_the_pictures_of_the_same_message(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = FakeGrid({1: site()})
    done = asked(grid, map(both, range(3)), share=2)
    assert asked_kinds(grid) == ["p0 p1 m0 m1", "p2 m2"]
    assert [(each.request.kind[0], each.request.meta["chunk"]) for each in done[:4]] == [
        ("p", 0), ("p", 1), ("m", 0), ("m", 1),
    ]  # fmt: skip
    monkeypatch.setattr(line, "MESSAGE_BYTES", 7)
    grid = FakeGrid({1: site()})
    asked(grid, map(both, range(3)), share=2)
    assert asked_kinds(grid) == ["p0 m0", "p1 m1", "p2 m2"]


def test_masks_that_a_site_did_not_get_to_are_asked_without_their_pictures() -> None:
    grid = FakeGrid({1: site(enough=[3, 1])})
    asked(grid, map(both, range(2)), share=4)
    assert asked_kinds(grid) == ["p0 p1 m0 m1", "m1"]
    grid = FakeGrid({1: site(enough=[1])})
    asked(grid, map(both, range(2)), share=4)
    assert asked_kinds(grid) == ["p0 p1 m0 m1", "p1 m0 m1"]


def test_where_pictures_are_refused_their_masks_are_dropped() -> None:
    """Who asked for both asks for both again."""
    refused = iter([[Reply(False, {"reason": "bad_data"})]])

    def node(message: Message) -> Message:
        replies = next(refused, None) or [Reply(True, each.meta, each.blob) for each in read(message)]
        return Message(content(replies), reply_to=message)

    grid = FakeGrid({1: node})
    done = asked(grid, map(both, range(2)), share=4)
    assert asked_kinds(grid) == ["p0 p1 m0 m1", "p1 m1"]
    assert [each.reply.ok for each in done] == [False, True, True]


def test_what_a_site_did_not_get_to_is_asked_next() -> None:
    grid = FakeGrid({1: site(enough=[1, 3])})
    done = asked(grid, chunks(6))
    assert shares(grid) == [[0, 1, 2, 3], [1, 2, 3, 4], [4, 5]]
    assert [each.request.meta["chunk"] for each in done] == list(range(6))


@given(st.lists(st.integers(1, 5), max_size=8), st.integers(1, 3), st.integers(1, 5), st.integers(0, 12))
@settings(max_examples=50, deadline=None)
def test_every_request_is_answered_once(enough: list[int], in_flight: int, share: int, count: int) -> None:
    grid = FakeGrid({1: site(enough)})
    done = asked(grid, chunks(count, size=2), in_flight, share)
    assert sorted(each.request.meta["chunk"] for each in done) == list(range(count))
    assert all(each.reply.blob == each.request.blob for each in done)
    assert grid.most_waiting.get(1, 0) <= in_flight


def test_a_message_that_fails_is_one_failure_and_the_reply_to_all_of_it_once_the_site_is_lost() -> None:
    done = asked(FakeGrid({1: offline}), chunks(4))
    assert [(each.request.meta["chunk"], each.reply.meta["reason"]) for each in done] == [
        (number, "unreachable") for number in range(4)
    ]


def test_more_replies_than_requests_are_left_alone() -> None:
    node: Node = lambda message: Message(content([Reply(True)] * 9), reply_to=message)  # noqa: E731
    assert len(asked(FakeGrid({1: node}), chunks(2))) == 2


def test_no_replies_at_all_are_no_answer() -> None:
    node: Node = lambda message: Message(content([]), reply_to=message)  # noqa: E731
    assert [each.reply.meta["reason"] for each in asked(FakeGrid({1: node}), chunks(1))] == ["bad_reply"]


@pytest.mark.parametrize(
    ("name", "value", "replies", "count"),
    [
        ("ENOUGH_SECONDS", 20.0, [Reply(True)] * 4, 4),
        ("ENOUGH_SECONDS", -1.0, [Reply(True)] * 4, 1),
        ("ENOUGH_BYTES", 15, [Reply(True, {}, b"x" * 10)] * 4, 2),
        ("ENOUGH_BYTES", 15, [Reply(True), Reply(False), Reply(True), Reply(True)], 2),
    ],
    ids=["all", "time is up", "enough bytes", "a refusal"],
)
def test_a_site_answers_until_it_is_enough(
    monkeypatch: pytest.MonkeyPatch, name: str, value: float, replies: list[Reply], count: int
) -> None:
    be_a_task()
    rest = iter(replies)
    monkeypatch.setattr(sites.app, name, value)
    monkeypatch.setattr(sites.app, "answer", lambda request, context: next(rest))
    assert answers(list(chunks(4)), HERE) == replies[:count]


def test_pictures_are_taken_even_when_it_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have crossed the link already."""
    be_a_task()
    monkeypatch.setattr(sites.app, "ENOUGH_SECONDS", -1.0)
    monkeypatch.setattr(sites.app, "answer", lambda request, context: Reply(True))
    assert len(answers([*chunks(3, size=9), Request("masks", {"chunk": 0})], HERE)) == 3
