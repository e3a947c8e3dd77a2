import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nakt_fed.codec import decode, encode
from nakt_fed.data.folders import load_pictures
from nakt_fed.data.pictures import content_hash
from nakt_fed.errors import CheckpointError
from nakt_fed.exchange import Reply, Request
from nakt_fed.manifest import Manifest
from nakt_fed.offered import set_folder
from nakt_fed.service import TeacherService
from nakt_fed.shared_set import SharedSet
from nakt_fed.simulated_site import open_service
from nakt_fed.study import Study
from nakt_fed.transferal import transferal_set
from nakt_fed.views import ViewScheme
from tests.tiny import CARD, bright, megabytes, service_of, tiny_study

CHUNK = 4


@pytest.fixture
def study(folders: Path) -> Study:
    return tiny_study(folders, round={"chunk_mb": megabytes(CHUNK)})


@pytest.fixture
def shared(study: Study, tmp_path: Path) -> SharedSet:
    """7 originals and 14 views, in chunks of 4."""
    return transferal_set(study, tmp_path)


@pytest.fixture
def service(study: Study, tmp_path: Path) -> TeacherService:
    return service_of(study, "ann", tmp_path, bright)


def offer(manifest: Manifest, name: str = "transferal", chunk: int = CHUNK) -> Request:
    return Request("offer", {"set": name, "chunk": chunk}, manifest.to_json().encode())


def pictures(shared: SharedSet, chunk: int, stack: NDArray[np.uint8] | None = None) -> Request:
    stop = min((chunk + 1) * CHUNK, shared.manifest.originals)
    stack = np.asarray(shared.images[chunk * CHUNK : stop]) if stack is None else stack
    return Request("pictures", {"set": "transferal", "manifest": shared.manifest.sha256, "chunk": chunk}, encode(stack))


def masks(shared: SharedSet, start: int, stop: int, **meta: Any) -> Request:
    about = {"set": "transferal", "manifest": shared.manifest.sha256, "range": [start, stop], **meta}
    return Request("masks", about)


def well(reply: Reply) -> Reply:
    assert reply.ok, reply.meta
    return reply


def filled(service: TeacherService, shared: SharedSet) -> TeacherService:
    well(service.handle(offer(shared.manifest)))
    for chunk in (0, 1):
        well(service.handle(pictures(shared, chunk)))
    return service


def told_inside(service: TeacherService, reply: Reply) -> str:
    """What the site's own errors.jsonl holds under the reference of a refusal."""
    assert set(reply.meta) == {"reason", "reference"}
    assert reply.blob == b""
    lines = [json.loads(line) for line in (service.folder / "errors.jsonl").read_text().splitlines()]
    [line] = [line for line in lines if line["reference"] == reply.meta["reference"]]
    return str(line["error"])


def refused(service: TeacherService, request: Request, reason: str) -> str:
    reply = service.handle(request)
    assert not reply.ok
    assert reply.meta["reason"] == reason
    return told_inside(service, reply)


def test_hello(service: TeacherService) -> None:
    assert well(service.handle(Request("hello"))).meta["site"] == "ann"


def test_prepare_gives_the_card(service: TeacherService) -> None:
    assert well(service.handle(Request("prepare"))).meta == CARD


def test_an_offer_asks_for_the_chunks_of_originals(service: TeacherService, shared: SharedSet) -> None:
    """7 originals in chunks of 4 are chunks 0 and 1, although the 21 members are six chunks."""
    reply = well(service.handle(offer(shared.manifest)))
    assert reply.meta == {"manifest": shared.manifest.sha256, "missing": [0, 1], "overlap": 0}
    well(service.handle(pictures(shared, 1)))
    assert well(service.handle(offer(shared.manifest))).meta["missing"] == [0]


def test_masks_are_the_teachers_answers_to_originals_and_views(service: TeacherService, shared: SharedSet) -> None:
    filled(service, shared)
    for start, stop in [(0, 4), (5, 9), (20, 21), (0, 21)]:
        reply = well(service.handle(masks(shared, start, stop)))
        assert reply.meta == {"manifest": shared.manifest.sha256, "range": [start, stop]}
        expected = np.asarray(shared.images[start:stop])  # brightness / 255, times 255
        np.testing.assert_array_equal(decode(reply.blob, (stop - start, 32, 32)), expected)


def test_a_new_process_of_the_site_finds_the_pictures(
    study: Study, service: TeacherService, shared: SharedSet, tmp_path: Path
) -> None:
    filled(service, shared)
    again = service_of(study, "ann", tmp_path, bright)
    assert well(again.handle(masks(shared, 6, 9))).blob == service.handle(masks(shared, 6, 9)).blob


def test_originals_are_answered_as_soon_as_they_are_there(service: TeacherService, shared: SharedSet) -> None:
    """While the others are still on their way."""
    well(service.handle(offer(shared.manifest)))
    well(service.handle(pictures(shared, 0)))
    early = well(service.handle(masks(shared, 0, 4)))
    np.testing.assert_array_equal(decode(early.blob, (4, 32, 32)), np.asarray(shared.images[:4]))
    well(service.handle(pictures(shared, 1)))
    assert well(service.handle(masks(shared, 0, 4))) == early


def test_near_lossless_answers_keep_their_bound(service: TeacherService, shared: SharedSet) -> None:
    reply = well(filled(service, shared).handle(masks(shared, 0, 7, near=2)))
    off = decode(reply.blob, (7, 32, 32)).astype(int) - np.asarray(shared.images[:7])
    assert 1 <= np.abs(off).max() <= 2


def test_a_binary_teacher_answers_0_or_255(folders: Path, shared: SharedSet, tmp_path: Path) -> None:
    sites = [
        {"name": "ann", "images": "ann/images", "masks": "ann/masks", "teacher": {"network": "unet", "binary": True}}
    ]
    service = filled(service_of(tiny_study(folders, site=sites), "ann", tmp_path, bright), shared)
    answer = decode(well(service.handle(masks(shared, 0, 7))).blob, (7, 32, 32))
    np.testing.assert_array_equal(answer, np.where(np.asarray(shared.images[:7]) > 127, 255, 0))


def test_overlap_is_a_count_and_no_more(study: Study, service: TeacherService, folders: Path) -> None:
    """Two of the site's eight pictures lie in the transferal set too."""
    own, organ = (load_pictures([folders / name / "images"], 32).images for name in ("ann", "organ"))
    mixed = [*organ[:3], own[5], own[0]]
    manifest = Manifest(tuple(f"organ/{i}" for i in range(5)), tuple(map(content_hash, mixed)), 32)
    assert well(service.handle(offer(manifest))).meta == {"manifest": manifest.sha256, "missing": [0, 1], "overlap": 2}


@pytest.mark.parametrize(
    ("request_", "inside"),
    [
        (offer(Manifest(("a",), ("0",), 64)), "this site answers 32 px"),
        (offer(Manifest(("a",), ("0",), 32), chunk=0), "chunks of 1 to 4096"),
        (Request("offer", {"set": "transferal", "chunk": 4}, b"{}"), "this is no manifest"),
        (Request("masks", {"set": "unheard", "manifest": "", "range": [0, 1]}), "never offered"),
    ],
)
def test_bad_offers_are_refused(service: TeacherService, request_: Request, inside: str) -> None:
    assert inside in refused(service, request_, "bad_data")


def test_a_tampered_manifest_is_refused(service: TeacherService, shared: SharedSet) -> None:
    text = shared.manifest.to_json().replace("organ/0003", "organ/0009", 1)
    assert "does not fit its content" in refused(
        service, Request("offer", {"set": "transferal", "chunk": 4}, text.encode()), "bad_data"
    )


def test_pictures_that_are_not_in_the_manifest_are_refused(service: TeacherService, shared: SharedSet) -> None:
    well(service.handle(offer(shared.manifest)))
    wrong = np.asarray(shared.images[:4]).copy()
    wrong[2, 0, 0] ^= 1
    assert "picture 2 is not the one in the manifest" in refused(service, pictures(shared, 0, wrong), "bad_data")
    swapped = np.asarray(shared.images[:4])[[0, 1, 3, 2]]
    assert "picture 2 is not the one" in refused(service, pictures(shared, 0, swapped), "bad_data")
    assert well(service.handle(offer(shared.manifest))).meta["missing"] == [0, 1]


def test_views_that_this_version_renders_otherwise_are_refused(service: TeacherService, shared: SharedSet) -> None:
    """The last hash is another: what a site of another version would see."""
    hashes = (*shared.manifest.hashes[:-1], "0" * 64)
    other = Manifest(shared.manifest.ids, hashes, 32, ViewScheme(3, 2, 0.7))
    changed = SharedSet("transferal", other, shared.folder, CHUNK)
    filled(service, changed)
    well(service.handle(masks(changed, 0, 20)))
    assert "picture 20 is not the one in the manifest" in refused(service, masks(changed, 16, 21), "bad_data")


def test_requests_out_of_place_are_refused(service: TeacherService, shared: SharedSet) -> None:
    well(service.handle(offer(shared.manifest)))
    well(service.handle(pictures(shared, 0)))
    for start, stop in [(4, 7), (3, 5), (7, 8)]:  # the second chunk was not sent; the last of these is a view
        assert "before the pictures that they need" in refused(service, masks(shared, start, stop), "bad_data")
    assert "the manifest has 2" in refused(service, pictures(shared, 2, np.zeros((1, 32, 32), np.uint8)), "bad_data")
    assert "the manifest has 2" in refused(service, pictures(shared, -1, np.zeros((1, 32, 32), np.uint8)), "bad_data")
    well(service.handle(pictures(shared, 1)))
    for start, stop in [(0, 22), (21, 22), (4, 4), (5, 4), (-1, 4)]:
        assert "ask within the set" in refused(service, masks(shared, start, stop), "bad_data")
    assert "never offered" in refused(service, masks(shared, 0, 4, manifest="0" * 64), "bad_data")


@pytest.mark.parametrize("blob", [b"", b"noise" * 99, encode(np.zeros((3, 32, 32), np.uint8))])
def test_garbage_for_pictures_is_refused(service: TeacherService, shared: SharedSet, blob: bytes) -> None:
    well(service.handle(offer(shared.manifest)))
    request = Request("pictures", {"set": "transferal", "manifest": shared.manifest.sha256, "chunk": 0}, blob)
    refused(service, request, "bad_answer")


@pytest.mark.parametrize(
    ("teacher", "inside"),
    [
        (lambda x: x / 0.0 * 0, "NaN or infinity"),
        (lambda x: x / 10.0 - 5, "logits without sigmoid"),
        (lambda x: x[:, ::2] / 255, r"the teacher answers (4, 16, 32) for pictures (4, 32, 32)"),
        (lambda x: x[0] / 255, "the teacher answers (32, 32) for pictures (4, 32, 32)"),
    ],
    ids=["nan", "logits", "half the size", "one mask"],
)
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered")
def test_a_bad_teacher_is_refused(
    study: Study, shared: SharedSet, tmp_path: Path, teacher: Callable[..., Any], inside: str
) -> None:
    service = filled(service_of(study, "ann", tmp_path, teacher), shared)
    assert inside in refused(service, masks(shared, 0, 4), "bad_answer")


SECRET = "Erika Mustermann"


@pytest.mark.parametrize("error", [RuntimeError, OSError, KeyError, CheckpointError, MemoryError, RecursionError])
def test_no_word_of_an_exception_leaves_the_site(
    study: Study, shared: SharedSet, tmp_path: Path, error: type[Exception]
) -> None:
    def teacher(_: object) -> None:
        raise error(f"/private/{SECRET}/scan.png")

    service = filled(service_of(study, "ann", tmp_path, teacher), shared)
    reply = service.handle(masks(shared, 0, 4))
    crossing = json.dumps([reply.ok, reply.meta]).encode() + reply.blob
    for word in (SECRET, "Erika", "Mustermann", "private", "scan", str(tmp_path), error.__name__):
        assert word.encode() not in crossing
    assert reply.meta["reason"] == ("bad_checkpoint" if error is CheckpointError else "internal")
    assert SECRET in told_inside(service, reply)


def test_a_refusal_leaves_also_when_the_disk_is_full(service: TeacherService) -> None:
    (service.folder / "errors.jsonl").mkdir()  # cannot be written to, as on a full disk
    assert service.handle(Request("masks")).meta["reason"] == "internal"


@pytest.mark.parametrize(
    "request_",
    [
        Request("forget"),  # type: ignore[arg-type]
        Request("offer"),
        Request("masks", {"set": "transferal"}),
        Request("pictures", {"set": None, "manifest": [], "chunk": "x"}),
    ],
)
def test_malformed_requests_are_refused(service: TeacherService, shared: SharedSet, request_: Request) -> None:
    filled(service, shared)
    assert not service.handle(request_).ok


@pytest.mark.parametrize("name", ["../../outside", "..", "", "/etc", "a" * 300, "a\0b"])
def test_a_sets_name_never_becomes_a_path(
    service: TeacherService, shared: SharedSet, tmp_path: Path, name: str
) -> None:
    before = {path for path in tmp_path.rglob("*") if "sites" not in path.parts}
    well(service.handle(offer(shared.manifest, name)))
    assert {path for path in tmp_path.rglob("*") if "sites" not in path.parts} == before
    assert len(list((service.folder / "sets").iterdir())) == 1


def test_every_name_has_a_folder_of_its_own() -> None:
    names = ["test-a.b", "test-a_b", "test-a b", "test-ä", "x" * 50, "x" * 51]
    assert len({set_folder(name) for name in names}) == len(names)


def test_a_test_set_does_not_displace_another(
    study: Study, service: TeacherService, shared: SharedSet, tmp_path: Path
) -> None:
    """Names that look alike as folders; the site's next process still knows both."""
    a, b = (
        Manifest((f"{name}/1",), (content_hash(np.asarray(shared.images[row])),), 32) for row, name in enumerate("ab")
    )
    for manifest, name in ((a, "test-x.y"), (b, "test-x_y")):
        well(service.handle(offer(manifest, name)))
    again = service_of(study, "ann", tmp_path, bright)
    for row, manifest, name in ((0, a, "test-x.y"), (1, b, "test-x_y")):
        blob = encode(np.asarray(shared.images[row : row + 1]))
        well(again.handle(Request("pictures", {"set": name, "manifest": manifest.sha256, "chunk": 0}, blob)))


def test_threads_are_those_of_the_study(study: Study, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        TeacherService(study.site[0], tmp_path, image_size=32, seed=3, threads=3).handle(Request("hello"))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_one_service_per_process_and_site(study: Study, tmp_path: Path, forget: Callable[[], None]) -> None:
    """So that a simulated site's teacher is loaded once."""
    ann = open_service(study, "ann", tmp_path)
    assert open_service(study, "ann", tmp_path) is ann
    assert open_service(study, "bob", tmp_path) is not ann
    assert open_service(study, "ann", tmp_path / "other") is not ann
    assert (ann.site.name, ann.folder, ann.seed) == ("ann", tmp_path / "sites" / "ann", 3)
