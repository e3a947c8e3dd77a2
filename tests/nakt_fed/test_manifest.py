import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.errors import DataError
from nakt_fed.manifest import Manifest
from nakt_fed.views import ViewScheme

HASHES = tuple(hashlib.sha256(str(i).encode()).hexdigest() for i in range(6))
VIEWED = Manifest(
    ("organ/1", "organ/Ä2", "organ/1~000", "organ/1~001", "organ/Ä2~000", "organ/Ä2~001"),
    HASHES,
    96,
    ViewScheme(7, 2, 0.7),
)
PLAIN = Manifest(("a/1", "a/2", "a/3"), HASHES[:3], 64)


@pytest.mark.parametrize("manifest", [VIEWED, PLAIN, Manifest((), (), 32)])
def test_round_trip(manifest: Manifest) -> None:
    text = manifest.to_json()
    assert Manifest.from_json(text) == Manifest.from_json(text.encode()) == manifest
    assert Manifest.from_json(text).sha256 == manifest.sha256


def test_originals_are_what_is_no_view() -> None:
    assert (len(VIEWED), VIEWED.originals) == (6, 2)
    assert (len(PLAIN), PLAIN.originals) == (3, 3)


def test_the_file_that_other_tools_read() -> None:
    raw = json.loads(PLAIN.to_json())
    whole = raw.pop("sha256")
    assert raw == {
        "version": 1,
        "preprocessing": "gray-square-bilinear/1",
        "image_size": 64,
        "views": None,
        "pictures": [{"id": f"a/{i + 1}", "sha256": HASHES[i], "size": [64, 64]} for i in range(3)],
    }
    assert whole == hashlib.sha256(json.dumps(raw, sort_keys=True).encode()).hexdigest(), "any tool can check it"


Place = tuple[str | int, ...]


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Every key and index of a JSON document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*here, key)
        yield from places(item, (*here, key))


def changed(document: Any, place: Place, value: Any) -> Any:
    """A copy with another value at `place`; with `...` it is left out."""
    document = copy.deepcopy(document)
    parent = document
    for key in place[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[place[-1]]
    else:
        parent[place[-1]] = value
    return document


def at(document: Any, place: Place) -> Any:
    for key in place:
        document = document[key]
    return document


@pytest.mark.parametrize("manifest", [VIEWED, PLAIN])
def test_no_field_can_be_changed_or_left_out(manifest: Manifest) -> None:
    document = json.loads(manifest.to_json())
    for place in places(document):
        old = at(document, place)
        others: list[Any] = [..., None, "other", 1, -1, 0.5, [], {}, [old], {"a": old}, str(old)]
        for value in others:
            if value == old or (value is None and old is None):
                continue
            with pytest.raises(DataError):
                Manifest.from_json(json.dumps(changed(document, place, value)))


def test_nothing_can_be_added() -> None:
    document = json.loads(PLAIN.to_json())
    for place in [("extra",), ("pictures", 0, "extra")]:
        with pytest.raises(DataError, match="does not fit its content"):
            Manifest.from_json(json.dumps(changed(document, place, "more")))


def test_a_changed_hash_is_told_with_the_remedy() -> None:
    document = changed(json.loads(PLAIN.to_json()), ("pictures", 1, "sha256"), HASHES[5])
    with pytest.raises(DataError, match=r"does not fit its content .* changed on the way, send it again"):
        Manifest.from_json(json.dumps(document))


@given(st.permutations(range(3)).filter(lambda order: order != [0, 1, 2]))
@settings(max_examples=5)
def test_the_order_counts(order: list[int]) -> None:
    other = Manifest(tuple(PLAIN.ids[i] for i in order), tuple(PLAIN.hashes[i] for i in order), 64)
    assert other.sha256 != PLAIN.sha256


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"text"', "{}", "[" * 100_000, b"\xff\xfe", b"\x80\x04."])
def test_what_is_no_manifest_is_refused(text: str | bytes) -> None:
    with pytest.raises(DataError, match="this is no manifest"):
        Manifest.from_json(text)


def test_other_preprocessing_is_refused_although_the_hash_fits() -> None:
    other = Manifest(PLAIN.ids, PLAIN.hashes, 64, preprocessing="gray-square-bicubic/2")
    with pytest.raises(DataError, match=r"preprocessing 'gray-square-bicubic/2'.*run the same nakt-fed on both sides"):
        Manifest.from_json(other.to_json())


def test_another_version_is_told_as_such() -> None:
    document = changed(json.loads(PLAIN.to_json()), ("version",), 2)
    with pytest.raises(DataError, match=r"manifest of version 2 .*; this side knows version 1 .*run the same nakt-fed"):
        Manifest.from_json(json.dumps(document))


def test_views_that_do_not_fit_the_pictures_are_refused_although_the_hash_fits() -> None:
    other = Manifest(PLAIN.ids, PLAIN.hashes, 64, ViewScheme(7, 1, 0.7))
    with pytest.raises(DataError, match="lists 3 pictures, which does not fit its views"):
        Manifest.from_json(other.to_json())


def test_views_of_another_scheme_are_refused() -> None:
    document = changed(json.loads(VIEWED.to_json()), ("views", "scheme"), "views/2")
    with pytest.raises(DataError, match="views/2"):
        Manifest.from_json(json.dumps(document))
