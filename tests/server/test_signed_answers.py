"""Whose answer it is: signed with the site's registered key, for this very question; over a real SuperLink:
tests/deployment/test_soak_forged.py."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_ssh_private_key,
)
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from nakt_fed.exchange import Reply, Request
from nakt_fed.provision.keys import new_site_key
from nakt_fed.signing import SITE_KEY
from server.grid import FlowerSites, with_meta
from server.presence import Presence
from sites.app import content
from tests.server.fake_grid import FakeGrid, Node

GOOD = Reply(True, {"said": "by a"}, b"masks")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """The registered half of site a's key; its SuperNode has told the app where the other half is."""
    monkeypatch.setenv(SITE_KEY, str(tmp_path / "a.key"))
    return new_key(tmp_path / "a.key")


def new_key(path: Path) -> bytes:
    path.write_bytes(new_site_key())
    private: Any = load_ssh_private_key(path.read_bytes(), None)
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def told(node: Node, key: bytes) -> list[Reply]:
    """What becomes of a site's answers to two requests, one after the other."""
    presence = Presence(["a"], lambda: {"a": 1}, 0.0)
    sites = FlowerSites(FakeGrid({1: node}), presence, 1, 60, with_meta({}), keys={"a": key})
    requests: Iterator[Request] = (Request("masks", {"chunk": chunk}) for chunk in range(2))
    return [done.reply for done in sites.exchange({"a": requests})]


def reasons(replies: list[Reply]) -> list[Any]:
    return [reply.meta.get("reason", "ok") for reply in replies]


def honest(message: Message) -> Message:
    return Message(content([GOOD], message.metadata.message_id), reply_to=message)


def test_a_sites_own_answer_is_taken(key: bytes) -> None:
    assert told(honest, key) == [GOOD, GOOD]


def test_an_answer_with_another_sites_key_is_not(key: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new_key(tmp_path / "b.key")
    monkeypatch.setenv(SITE_KEY, str(tmp_path / "b.key"))
    assert reasons(told(honest, key)) == ["not_from_site"] * 2


def test_an_answer_given_once_does_not_count_for_another_question(key: bytes) -> None:
    first: list[RecordDict] = []

    def replay(message: Message) -> Message:
        first.append(content([GOOD], message.metadata.message_id))
        return Message(first[0], reply_to=message)

    assert reasons(told(replay, key)) == ["ok", "not_from_site"]


def altered(record: RecordDict, what: str) -> RecordDict:
    meta: dict[str, Any] = dict(record.config_records["meta"])
    blob = record.array_records["blobs"]["all"].data
    match what:
        case "words":
            meta["json"] = [text.replace("by a", "by b") for text in meta["json"]]
        case "masks":
            blob = b"masqs"
        case "place":
            meta |= {"json": meta["json"] * 2, "bytes": [2, 3]}
        case "signature":
            meta["signature"] = "no base64"
        case "none":
            del meta["signature"]
    array = Array("uint8", (len(blob),), "bytes", blob)
    return RecordDict({"meta": ConfigRecord(meta), "blobs": ArrayRecord({"all": array})})


@pytest.mark.parametrize("what", ["words", "masks", "place", "signature", "none"])
def test_an_answer_that_was_changed_on_its_way_is_not_taken(key: bytes, what: str) -> None:
    def node(message: Message) -> Message:
        return Message(altered(content([GOOD], message.metadata.message_id), what), reply_to=message)

    assert reasons(told(node, key)) == ["not_from_site"] * 2


def test_a_site_whose_key_cannot_be_read_still_answers(key: bytes) -> None:
    """Unsigned, so it is not believed; but no path leaves."""
    Path(os.environ[SITE_KEY]).unlink()
    replies = told(honest, key)
    assert reasons(replies) == ["not_from_site"] * 2
    assert "a.key" not in str(replies)
