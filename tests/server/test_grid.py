from collections.abc import Iterable, Iterator
from threading import Event

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from nakt_fed.errors import RunError
from nakt_fed.exchange import Reply, Request
from server import grid as grid_module
from server.find import find_sites
from server.grid import FlowerSites, with_meta
from server.presence import Presence
from sites.app import content, read
from tests.nakt_fed.test_wire import HOSTILE
from tests.server.fake_grid import FakeGrid, Node, offline


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grid_module, "LONGEST_PAUSE", 0.0)


def site(name: str) -> Node:
    """A site that says who it is, what it was asked, and gives the blob back reversed."""

    def answer(message: Message) -> Message:
        (request,) = read(message)
        meta = {"site": name, "kind": request.kind, "asked": request.meta}
        return Message(content([Reply(True, meta, request.blob[::-1])]), reply_to=message)

    return answer


def requests(count: int, taken: list[int] | None = None, blob: bytes = b"") -> Iterator[Request]:
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield Request("masks", {"chunk": number}, blob)


def sites(grid: FakeGrid, in_flight: int = 2, **extra: object) -> FlowerSites:
    presence = Presence(["a", "b"], lambda: {"a": 1, "b": 2}, 0.0)
    return FlowerSites(grid, presence, in_flight, 60, with_meta(extra))


def test_request_and_reply_cross_unchanged() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")})
    blob = bytes(range(256)) * 3
    (done,) = sites(grid, run="/r").exchange({"a": iter([Request("pictures", {"chunk": 3, "ü": [1.5, None]}, blob)])})
    assert done.site == "a"
    assert done.request == Request("pictures", {"chunk": 3, "ü": [1.5, None]}, blob)  # without what `extra` adds
    assert done.reply.ok
    assert done.reply.meta == {"site": "a", "kind": "pictures", "asked": {"run": "/r", "chunk": 3, "ü": [1.5, None]}}
    assert done.reply.blob == blob[::-1]
    assert grid.pushed[0].metadata.message_type == "query"
    assert grid.pushed[0].metadata.ttl == 60


def test_a_slow_site_never_holds_back_a_fast_one() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")}, slowness={1: 10})
    order = [done.site for done in sites(grid, in_flight=1).exchange({"a": requests(1), "b": requests(5)})]
    assert order == ["b"] * 5 + ["a"]


def test_every_site_gets_a_message_before_any_gets_its_second() -> None:
    """To code and send one takes seconds."""
    grid = FakeGrid({1: site("a"), 2: site("b")}, slowness={1: 9, 2: 9})
    list(sites(grid, in_flight=3).exchange({"a": requests(3), "b": requests(3)}))
    assert [message.metadata.dst_node_id for message in grid.pushed] == [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("in_flight", [1, 3])
def test_requests_are_taken_only_as_fast_as_the_site_answers(in_flight: int) -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")}, slowness={1: 4})
    taken: list[int] = []
    stream = sites(grid, in_flight).exchange({"a": requests(10, taken), "b": requests(2)})
    for count, done in enumerate([done for done in iter(lambda: next(stream, None), None) if done.site == "a"]):
        assert done.request.meta["chunk"] == count
    assert taken == list(range(10))
    assert grid.most_waiting[1] == in_flight


def test_what_is_taken_before_the_first_reply_is_what_is_in_flight() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")}, slowness={1: 9})
    taken: list[int] = []
    next(sites(grid, 3).exchange({"a": requests(10, taken)}))
    assert len(taken) == 4  # three in flight; the fourth goes out before the first reply is looked at


def test_the_same_blob_is_never_copied() -> None:
    """The coordinator sends the same coded pictures to every site."""
    grid = FakeGrid({1: site("a"), 2: site("b")})
    blob = b"pictures" * 100
    list(sites(grid).exchange({"a": requests(2, blob=blob), "b": requests(2, blob=blob)}))
    assert all(message.content["blobs"]["0"].data is blob for message in grid.pushed)


def test_an_offline_node_is_unreachable_and_the_others_go_on() -> None:
    grid = FakeGrid({1: offline, 2: site("b")})
    done = list(sites(grid).exchange({"a": requests(3), "b": requests(3)}))
    lost = [each.reply for each in done if each.site == "a"]
    assert [reply.meta["reason"] for reply in lost] == ["unreachable"] * 3
    assert lost[0].meta["message"] == "Flower error 5: node went away"
    assert sum(each.reply.ok for each in done) == 3


def test_a_node_that_flower_refuses_is_unreachable_for_every_request() -> None:
    grid = FakeGrid({2: site("b")}, gone=[1])
    done = list(sites(grid).exchange({"a": requests(3), "b": requests(3)}))
    assert [each.reply.meta.get("reason") for each in done if each.site == "a"] == ["unreachable"] * 3
    assert sum(each.reply.ok for each in done if each.site == "b") == 3


def test_a_node_that_goes_away_in_the_middle() -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")})
    stream = sites(grid, in_flight=1).exchange({"a": requests(4)})
    assert next(stream).reply.ok
    grid.gone.add(1)
    assert [done.reply.ok for done in stream] == [True, False, False]


@pytest.mark.parametrize("text", ["no json", "[]", '{"ok": 1, "meta": {}}', '{"ok": true}', None, *HOSTILE.values()])
def test_an_answer_that_is_no_reply(text: str | None) -> None:
    def answer(message: Message) -> Message:
        good = content([Reply(True)])
        bad = (
            RecordDict({**good, "meta": ConfigRecord({"json": [text], "bytes": [0]})})
            if text is not None
            else RecordDict({})
        )
        return Message(bad, reply_to=message)

    (done,) = sites(FakeGrid({1: answer})).exchange({"a": requests(1)})
    assert not done.reply.ok
    assert done.reply.meta["reason"] == "bad_reply"


@pytest.mark.parametrize("sizes", [[], [3], [5], [-1, 5], [2, 2], [4.0], "4", None])
def test_replies_whose_sizes_do_not_fit_their_bytes(sizes: object) -> None:
    """One reply of four bytes."""

    def answer(message: Message) -> Message:
        good = content([Reply(True, {}, b"mask")])
        meta = ConfigRecord({"json": good["meta"]["json"], **({} if sizes is None else {"bytes": sizes})})  # type: ignore[dict-item]
        return Message(RecordDict({**good, "meta": meta}), reply_to=message)

    (done,) = sites(FakeGrid({1: answer})).exchange({"a": requests(1)})
    assert done.reply.meta["reason"] == "bad_reply"


def test_nothing_to_ask() -> None:
    assert list(sites(FakeGrid({})).exchange({})) == []
    assert list(sites(FakeGrid({1: site("a")})).exchange({"a": iter([])})) == []


def refusal(reason: str, message: str = "") -> Node:
    return lambda asked: Message(content([Reply(False, {"reason": reason, "message": message})]), reply_to=asked)


def test_find_sites_maps_names_to_nodes_in_the_order_of_the_study() -> None:
    grid = FakeGrid({7: site("b"), 9: site("a"), 11: site("stranger"), 12: refusal("no_site")})
    found = find_sites(grid, ["a", "b"], 1, {"run": "/r"})
    assert found == {"a": 9, "b": 7}
    assert list(found) == ["a", "b"]
    assert read(grid.pushed[0]) == [Request("hello", {"run": "/r"})]


def test_find_sites_waits_for_nodes_that_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = FakeGrid({1: site("a"), 2: site("b")})
    seen = iter([[], [1], [1], [1, 2]])
    monkeypatch.setattr(grid, "get_node_ids", lambda: next(seen))
    assert find_sites(grid, ["a", "b"], 5, {}) == {"a": 1, "b": 2}
    assert [message.metadata.dst_node_id for message in grid.pushed] == [1, 2]  # each is asked once


@pytest.mark.parametrize("other", [offline, site("else")])
def test_a_site_that_does_not_come_is_named(other: Node) -> None:
    with pytest.raises(RunError, match=r"site 'b' did not come within 0 s \(2 nodes did\); start it"):
        find_sites(FakeGrid({1: site("a"), 2: other}), ["a", "b"], 0.05, {})


def test_two_nodes_of_one_name() -> None:
    with pytest.raises(RunError, match="two nodes call themselves site 'a'"):
        find_sites(FakeGrid({1: site("a"), 2: site("a"), 3: site("b")}), ["a", "b"], 1, {})


def test_a_node_that_says_why_it_cannot_take_part_ends_the_search_at_once() -> None:
    grid = FakeGrid({1: refusal("too_few_nodes", "add num-supernodes=3")})
    with pytest.raises(RunError, match="add num-supernodes=3"):
        find_sites(grid, ["a", "b", "c"], 60, {})


def test_a_site_whose_reply_is_still_being_uploaded_never_holds_back_another() -> None:
    """Flower blocks in the look for such a reply."""
    grid, uploaded = FakeGrid({1: site("a"), 2: site("b")}), Event()
    look = grid.pull_messages

    def pull(message_ids: Iterable[str]) -> list[Message]:
        (message_id,) = message_ids
        if grid.waiting[message_id][0].metadata.dst_node_id == 1:
            assert uploaded.wait(10)
        return look([message_id])

    grid.pull_messages = pull  # type: ignore[method-assign]
    order: list[str] = []
    for done in sites(grid).exchange({"a": requests(1), "b": requests(4)}):
        order.append(done.site)
        if order.count("b") == 4:
            uploaded.set()
    assert order == ["b"] * 4 + ["a"]


def test_a_site_without_a_question_just_now_is_asked_again_after_its_answer() -> None:
    """Masks cannot be asked before the pictures were taken."""
    answered: list[int] = []

    def questions() -> Iterator[Request | None]:
        for number in range(3):
            while len(answered) < number:
                yield None
            yield Request("masks", {"chunk": number})

    grid = FakeGrid({1: site("a"), 2: site("b")}, slowness={1: 2, 2: 9})
    for done in sites(grid).exchange({"a": questions(), "b": requests(2)}):
        if done.site == "a":
            answered.append(done.request.meta["chunk"])
    assert answered == [0, 1, 2]
    assert grid.most_waiting == {1: 1, 2: 2}


def test_a_site_that_goes_away_after_its_last_answer_is_not_waited_for() -> None:
    here = {"a": 1}
    presence = Presence(["a"], lambda: here, patience=60)
    stream = FlowerSites(FakeGrid({1: site("a")}), presence, 2, 60, with_meta({})).exchange({"a": requests(1)})
    assert next(stream).reply.ok
    presence.failed("a", "unreachable")
    assert list(stream) == []
