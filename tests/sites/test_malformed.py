"""A thousand malformed messages to the ClientApp's handlers: an answer each time, and nothing of the site in it."""

import json
from functools import partial
from pathlib import Path

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sites.app
from nakt_fed.exchange import Reply, Request
from nakt_fed.site.relay import ask_service
from nakt_fed.wire import KINDS, request_text
from server.messages import read_message
from sites.app import app
from tests.server.fake_grid import FakeGrid

SECRET = "Erika-Mustermann"
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
metas = st.dictionaries(st.text(max_size=8), anything, max_size=3)
requests = st.builds(lambda kind, meta: json.dumps({"kind": kind, "meta": meta}), st.sampled_from(KINDS), metas)
texts = st.text(max_size=60) | st.builds(json.dumps, anything) | requests


@st.composite
def records(draw: st.DrawFn) -> RecordDict:
    """With or without the two records that a request has, and whatever in them."""
    found: dict[str, ConfigRecord | ArrayRecord] = {}
    key = st.sampled_from(["json", "other"])
    if draw(st.booleans()):
        found["meta"] = ConfigRecord(
            {draw(key): draw(texts | st.lists(texts, max_size=3) | st.integers(-9, 9) | st.binary(max_size=9))}
        )
    if draw(st.booleans()):
        blob = draw(st.binary(max_size=50))
        array = Array("uint8", (len(blob),), draw(st.sampled_from(["bytes", "numpy.ndarray"])), blob)
        found["blobs"] = ArrayRecord({draw(st.sampled_from(["0", "1", "other"])): array})
    return RecordDict(found)  # type: ignore[arg-type]


def answered(content: RecordDict, context: Context) -> Reply:
    grid = FakeGrid({})
    message = Message(content, 5, "query")
    grid.push_messages([message])
    reply = app(message, context)
    assert not reply.has_error()
    (only,) = read_message(reply)[:1]
    return only


def at_a_site(service: str) -> Context:
    return Context(run_id=1, node_id=5, node_config={"service": service}, state=RecordDict(), run_config={})


@given(records())
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_a_thousand_messages_are_answered_and_say_nothing_of_the_site(
    tmp_path_factory: pytest.TempPathFactory, content: RecordDict
) -> None:
    """No service listens at the site: whoever gets that far is told so."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sites.app, "ask_service", partial(ask_service, patience=0))
        reply = answered(content, at_a_site(f"/private/{SECRET}/socket"))
    assert not reply.ok
    assert reply.meta["reason"] in ("internal", "no_service")
    assert SECRET not in json.dumps(reply.meta)


@given(anything)
@settings(max_examples=300, deadline=None, database=None)
def test_whatever_a_service_answers_is_passed_on_or_a_reference_number(told: object) -> None:
    """Also NaN, which is no JSON: it must not become an exception whose words Flower would pass on."""
    good = RecordDict({"meta": ConfigRecord({"json": [request_text(Request("hello"))]}), "blobs": ArrayRecord({})})
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sites.app, "ask_service", lambda path, request, wait: Reply(True, {"told": told}))
        reply = answered(good, at_a_site(str(Path("socket"))))
    assert reply == Reply(True, {"told": told}) or reply.meta["reason"] == "internal"
