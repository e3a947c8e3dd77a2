import pytest
from hypothesis import given
from hypothesis import strategies as st

from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.wire import KINDS, read_reply, read_request, reply_text, request_text

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(st.none() | st.booleans() | numbers | st.text(), lambda inner: st.lists(inner), max_leaves=8)
metas = st.dictionaries(st.text(), values)


@given(st.sampled_from(KINDS), metas, st.binary())
def test_a_request_comes_back_equal(kind: str, meta: dict[str, object], blob: bytes) -> None:
    request = Request(kind, meta, blob)  # type: ignore[arg-type]
    assert read_request(request_text(request), blob) == request


@given(st.booleans(), metas, st.binary())
def test_a_reply_comes_back_equal(ok: bool, meta: dict[str, object], blob: bytes) -> None:
    assert read_reply(reply_text(Reply(ok, meta, blob)), blob) == Reply(ok, meta, blob)


def test_what_is_no_json_is_refused_where_it_is_written() -> None:
    with pytest.raises(TypeError):
        request_text(Request("hello", {"path": object()}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        reply_text(Reply(True, {"dice": float("nan")}))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind": "delete", "meta": {}}', "expected a request of kind hello, .*; got 'delete'"),
        ('{"kind": ["hello"], "meta": {}}', "expected a request of kind hello"),
        ('{"kind": "hello", "meta": []}', "expected a request with kind and meta"),
        ("{}", "expected a request with kind and meta"),
        ("{", "expected a request in JSON"),
        ("[]", "JSON object; got list"),
    ],
)
def test_a_request_that_is_none(text: str, message: str) -> None:
    with pytest.raises(AnswerError, match=message):
        read_request(text, b"")


HOSTILE = {
    "nested too deeply": '{"ok": true, "meta": {"a": ' + "[" * 100_000,
    "a number too long to read": '{"ok": true, "meta": {"a": ' + "9" * 5000 + "}}",
    "not a number": '{"ok": true, "meta": {"a": NaN}}',
}
NONE = ["x", "3", "{}", '{"ok": true}', '{"ok": 1, "meta": {}}', '{"ok": true, "meta": []}']


@pytest.mark.parametrize("text", [*NONE, *HOSTILE.values()], ids=[*NONE, *HOSTILE])
def test_a_reply_that_is_none(text: str) -> None:
    with pytest.raises(AnswerError):
        read_reply(text, b"")
