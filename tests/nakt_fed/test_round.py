import hashlib
import json
import re
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nakt_fed.codec import encode
from nakt_fed.errors import RunError
from nakt_fed.exchange import Reply, Request
from nakt_fed.ledger import Ledger
from nakt_fed.round import Round
from nakt_fed.run import Run
from nakt_fed.shared_set import SharedSet
from nakt_fed.student import StudentJob
from nakt_fed.study import Study
from nakt_fed.transferal import transferal_set
from tests.tiny import CARD, Answer, Hospitals, Tamper, dark, hospitals, megabytes, tiny_study


def study_of(folders: Path, chunk: int = 4, **tables: Any) -> Study:
    return tiny_study(folders, transferal={"views": 1}, round={"chunk_mb": megabytes(chunk)}, **tables)


@pytest.fixture(scope="session")
def ready(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with the transferal set in it: 7 originals and 7 views, in chunks of 4."""
    run = tmp_path_factory.mktemp("ready")
    transferal_set(study_of(folders), run)
    return run


def asked(
    folders: Path,
    ready: Path,
    run: Path,
    *,
    min_sites: int = 1,
    teachers: dict[str, Answer] | None = None,
    **behaviour: Any,
) -> tuple[Round, SharedSet, Hospitals]:
    """A round over the transferal set, with whatever the hospitals do."""
    shutil.copytree(ready, run, dirs_exist_ok=True)
    study = study_of(folders)
    sites = hospitals(study, run, {"bob": dark, **(teachers or {})}, **behaviour)
    shared = transferal_set(study, run)
    asking = Round(sites, run, min_sites=min_sites)
    asking.prepare(asking.active)
    asking.ask([shared], asking.active)
    return asking, shared, sites


def test_every_site_answers_every_picture(folders: Path, ready: Path, tmp_path: Path) -> None:
    asking, shared, _ = asked(folders, ready, tmp_path, min_sites=2)
    images = np.asarray(shared.images[:])
    np.testing.assert_array_equal(shared.masks.all("ann"), images)
    np.testing.assert_array_equal(shared.masks.all("bob"), 255 - images)
    assert asking.active == ["ann", "bob"]
    assert asking.overlaps == {"ann": 0, "bob": 0}


def count(sites: Hospitals) -> dict[str, Counter[str]]:
    return {name: Counter(request.kind for site, request in sites.asked if site == name) for name in sites.names}


def test_each_chunk_is_exchanged_once(folders: Path, ready: Path, tmp_path: Path) -> None:
    """7 originals in chunks of 4 are 2, 14 members are 4."""
    _, _, sites = asked(folders, ready, tmp_path)
    assert count(sites) == {name: {"prepare": 1, "offer": 1, "pictures": 2, "masks": 4} for name in ("ann", "bob")}


def test_a_second_start_asks_for_nothing_that_is_there(folders: Path, ready: Path, tmp_path: Path) -> None:
    asked(folders, ready, tmp_path)
    asking, _, sites = asked(folders, ready, tmp_path)
    assert count(sites) == {name: {"prepare": 1, "offer": 1} for name in ("ann", "bob")}
    assert asking.overlaps == {"ann": 0, "bob": 0}, "also known when nothing is left to ask"


class Killed(BaseException):
    pass


def test_a_second_start_asks_for_what_is_missing(folders: Path, ready: Path, tmp_path: Path) -> None:
    """Killed at bob's third answer: 4 chunks of ann's and 2 of bob's are there."""
    seen = 0

    def killer(site: str, request: Request, reply: Reply) -> Reply:
        nonlocal seen
        seen += (site, request.kind) == ("bob", "masks")
        if seen == 3:
            raise Killed
        return reply

    with pytest.raises(Killed):
        asked(folders, ready, tmp_path, tamper=killer)
    _, shared, sites = asked(folders, ready, tmp_path)
    assert count(sites) == {"ann": {"prepare": 1, "offer": 1}, "bob": {"prepare": 1, "offer": 1, "masks": 2}}
    assert shared.masks.missing("bob") == []


def only(site: str, kind: str, change: Callable[[Reply], Reply], times: int = 99) -> Tamper:
    """Changes the first `times` replies of one kind of one site."""
    left = times

    def tamper(name: str, request: Request, reply: Reply) -> Reply:
        nonlocal left
        if (name, request.kind) != (site, kind) or not left:
            return reply
        left -= 1
        return change(reply)

    return tamper


def nan(pictures: np.ndarray) -> np.ndarray:
    return np.full(pictures.shape, np.nan)


def name_and_path(pictures: np.ndarray) -> np.ndarray:
    raise FileNotFoundError("/private/Erika Mustermann.png")


BAD_TEACHERS: dict[str, tuple[Answer, str]] = {
    "nan": (nan, "bad_answer, reference .*; check its teacher"),
    "logits": (lambda pictures: pictures - 100.0, "bad_answer, reference .*; check its teacher"),
    "shape": (lambda pictures: pictures[:, 1:] / 255, "bad_answer, reference .*; check its teacher"),
    "exception": (name_and_path, "internal, reference .* in the site's errors.jsonl; ask the site"),
}

BAD_REPLIES: dict[str, tuple[Callable[[Reply], Reply], str]] = {
    "manifest": (lambda r: replace(r, meta={**r.meta, "manifest": "0" * 64}), "another manifest or to other pictures"),
    "range": (lambda r: replace(r, meta={**r.meta, "range": [1, 5]}), "another manifest or to other pictures"),
    "no range": (lambda r: replace(r, meta={"manifest": r.meta["manifest"]}), "another manifest or to other pictures"),
    "no meta": (lambda r: replace(r, meta={}), "another manifest or to other pictures"),
    "garbage": (lambda r: replace(r, blob=b"garbage" * 50), "no coded masks"),
    "nothing": (lambda r: replace(r, blob=b""), "no coded masks"),
    "cut": (lambda r: replace(r, blob=r.blob[:-1]), "cut short or have bytes too many"),
    "other size": (lambda r: replace(r, blob=encode(np.zeros((4, 16, 16), np.uint8))), "expected .4, 32, 32"),
    "refusal": (lambda r: Reply(False, {"reason": "internal", "reference": "ab12"}), "internal, reference ab12"),
    "refusal without a word": (lambda r: Reply(False), "no reason given; ask the site"),
}


def check_set_aside(folders: Path, ready: Path, run: Path, reason: str, **behaviour: Any) -> None:
    """bob is set aside with the reason, and the run goes on without him."""
    asking, shared, _ = asked(folders, ready, run, **behaviour)
    assert asking.active == ["ann"]
    assert re.search(reason, asking.set_aside["bob"])
    assert shared.masks.missing("ann") == []
    [warning] = [event for event in events(run) if event["kind"] == "warning"]
    assert re.search(f"site bob is set aside .*{reason}", warning["message"])


def events(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("kind", BAD_TEACHERS)
def test_a_site_with_a_bad_teacher_is_set_aside(folders: Path, ready: Path, tmp_path: Path, kind: str) -> None:
    teacher, reason = BAD_TEACHERS[kind]
    check_set_aside(folders, ready, tmp_path, reason, teachers={"bob": teacher})


@pytest.mark.parametrize("kind", BAD_REPLIES)
def test_a_site_with_bad_answers_is_set_aside(folders: Path, ready: Path, tmp_path: Path, kind: str) -> None:
    change, reason = BAD_REPLIES[kind]
    check_set_aside(folders, ready, tmp_path, reason, tamper=only("bob", "masks", change))


BAD_OFFERS = [
    {},
    {"missing": "all", "overlap": 0},
    {"missing": [-1], "overlap": 0},
    {"missing": [0], "overlap": "x"},
]


@pytest.mark.parametrize("meta", BAD_OFFERS)
def test_a_site_with_a_bad_answer_to_the_offer_is_set_aside(
    folders: Path, ready: Path, tmp_path: Path, meta: dict[str, Any]
) -> None:
    reason = "its answer has (missing|overlap).*run the same nakt-fed there and here"
    check_set_aside(folders, ready, tmp_path, reason, tamper=only("bob", "offer", lambda r: replace(r, meta=meta)))


def test_a_site_that_asks_for_chunks_that_are_not_there_gets_those_that_are(
    folders: Path, ready: Path, tmp_path: Path
) -> None:
    greedy = only("bob", "offer", lambda r: replace(r, meta={**r.meta, "missing": [1, 2, 10**12, 0]}))
    asking, _, sites = asked(folders, ready, tmp_path, tamper=greedy)
    assert asking.active == ["ann", "bob"]
    assert count(sites)["bob"]["pictures"] == 2


BAD_CARDS = [
    {},
    {**CARD, "name": "ann"},
    {**CARD, "n_images": -1},
    {**CARD, "validation_dice": "good"},
    {**CARD, "binary": None},
]


@pytest.mark.parametrize("meta", BAD_CARDS)
def test_a_site_with_a_bad_card_is_set_aside(folders: Path, ready: Path, tmp_path: Path, meta: dict[str, Any]) -> None:
    reason = "run the same nakt-fed there and here"
    check_set_aside(folders, ready, tmp_path, reason, tamper=only("bob", "prepare", lambda r: replace(r, meta=meta)))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"teachers": {"bob": nan}}, "bad_answer, reference .*; check its teacher"),
        ({"tamper": only("bob", "masks", BAD_REPLIES["garbage"][0])}, "no coded masks"),
        ({"tamper": only("bob", "offer", BAD_REPLIES["no meta"][0])}, "run the same nakt-fed there and here"),
        ({"tamper": only("bob", "prepare", BAD_REPLIES["refusal"][0])}, "internal, reference ab12"),
    ],
    ids=["teacher", "masks", "offer", "prepare"],
)
def test_where_every_site_is_needed_the_run_stops(
    folders: Path, ready: Path, tmp_path: Path, behaviour: dict[str, Any], reason: str
) -> None:
    remedy = (
        rf"1 of 2 sites are left, at least round.min_sites = 2 .*bob: .*{reason}.*--resume, or lower round.min_sites"
    )
    with pytest.raises(RunError, match=remedy):
        asked(folders, ready, tmp_path, min_sites=2, **behaviour)


def refuse(reason: str) -> Callable[[Reply], Reply]:
    return lambda reply: Reply(False, {"reason": reason, "reference": "ab12"})


@pytest.mark.parametrize("kind", ["prepare", "offer"])
def test_a_refusal_before_the_first_picture_sets_aside(folders: Path, ready: Path, tmp_path: Path, kind: str) -> None:
    reason = "bad_checkpoint, reference ab12 in the site's errors.jsonl; check its teacher's checkpoint"
    check_set_aside(folders, ready, tmp_path, reason, tamper=only("bob", kind, refuse("bad_checkpoint")))


@pytest.mark.parametrize("kind", ["masks", "pictures"])
@pytest.mark.parametrize("change", [refuse("internal"), BAD_REPLIES["garbage"][0]], ids=["refusal", "garbage"])
def test_a_site_that_fails_once_recovers(
    folders: Path, ready: Path, tmp_path: Path, kind: str, change: Callable[[Reply], Reply]
) -> None:
    """Asked once more, after its other chunks. What is sent back for pictures is not looked at, so garbage there is no failure."""
    asking, shared, sites = asked(folders, ready, tmp_path, min_sites=2, tamper=only("bob", kind, change, times=1))
    assert asking.active == ["ann", "bob"]
    assert shared.masks.missing("bob") == []
    np.testing.assert_array_equal(shared.masks.all("bob"), 255 - np.asarray(shared.images[:]))
    again = 0 if kind == "pictures" and change is BAD_REPLIES["garbage"][0] else 1
    assert count(sites)["bob"][kind] == {"masks": 4, "pictures": 2}[kind] + again


def test_different_chunks_may_each_fail_once(folders: Path, ready: Path, tmp_path: Path) -> None:
    asking, _, sites = asked(
        folders, ready, tmp_path, min_sites=2, tamper=only("bob", "masks", refuse("internal"), times=4)
    )
    assert asking.active == ["ann", "bob"]
    assert count(sites)["bob"]["masks"] == 8


def test_a_site_that_cannot_be_reached_is_not_asked_again(folders: Path, ready: Path, tmp_path: Path) -> None:
    asking, _, sites = asked(
        folders, ready, tmp_path, tamper=only("bob", "masks", lambda r: Reply(False, {"reason": "unreachable"}))
    )
    assert asking.set_aside == {"bob": "unreachable; is it running and connected?"}
    assert count(sites)["bob"]["masks"] == 1


def test_a_site_that_fails_in_the_middle_keeps_nothing_of_the_bad_chunk(
    folders: Path, ready: Path, tmp_path: Path
) -> None:
    second = iter([False, True, False, False, True])
    bad = only("bob", "masks", lambda r: replace(r, blob=b"") if next(second) else r)
    asking, shared, _ = asked(folders, ready, tmp_path, tamper=bad)
    assert shared.masks.missing("bob") == [1]
    assert "bob" in asking.set_aside


def test_nothing_of_a_failing_site_is_in_the_run_but_the_reason(folders: Path, ready: Path, tmp_path: Path) -> None:
    """The words of its exception stay in the site's own folder."""
    asked(folders, ready, tmp_path, teachers={"bob": name_and_path})
    own = tmp_path / "sites"
    written = [path for path in tmp_path.rglob("*") if path.is_file() and own not in path.parents]
    assert len(written) > 5
    assert not [path for path in written if b"Erika" in path.read_bytes()]
    assert b"Erika" in (own / "bob" / "errors.jsonl").read_bytes()


def test_the_ledger_has_one_line_per_exchange_with_its_bytes(folders: Path, ready: Path, tmp_path: Path) -> None:
    replies: list[tuple[str, Request, Reply]] = []

    def seen(site: str, request: Request, reply: Reply) -> Reply:
        replies.append((site, request, reply))
        return reply

    asked(folders, ready, tmp_path, tamper=seen)
    lines = Ledger(tmp_path / "ledger.jsonl").lines()
    expected = [
        {
            "site": site,
            "kind": request.kind,
            "set": "transferal",
            "chunk": request.meta["chunk"] if request.kind != "offer" else None,
            "bytes_out": len(request.blob),
            "bytes_back": len(reply.blob),
            "sha256": hashlib.sha256(reply.blob).hexdigest(),
            "seconds": 0.01,
            "outcome": "ok",
        }
        for site, request, reply in replies
        if request.kind != "prepare"
    ]
    assert [{key: line[key] for key in expected[0]} for line in lines] == expected
    pictures = Counter((line["site"], line["kind"]) for line in lines for _ in range(line["pictures"]))
    assert pictures == {
        (site, kind): n for site in ("ann", "bob") for kind, n in (("offer", 14), ("pictures", 7), ("masks", 14))
    }


def test_the_ledger_tells_failures(folders: Path, ready: Path, tmp_path: Path) -> None:
    tamper = only("bob", "masks", BAD_REPLIES["garbage"][0], times=1)
    refusing = only("ann", "masks", refuse("internal"), times=1)
    asked(
        folders,
        ready,
        tmp_path,
        tamper=lambda site, request, reply: refusing(site, request, tamper(site, request, reply)),
    )
    lines = Ledger(tmp_path / "ledger.jsonl").lines()
    bad = {line["site"]: (line["outcome"], line["chunk"]) for line in lines if line["outcome"] != "ok"}
    assert bad == {"ann": ("failed", 0), "bob": ("rejected", 0)}
    assert all(("reason" in line) == (line["outcome"] != "ok") for line in lines)


@pytest.mark.parametrize("outcome", ["failed", "rejected"])
def test_the_ledger_tells_of_an_offer_that_was_not_accepted(
    folders: Path, ready: Path, tmp_path: Path, outcome: str
) -> None:
    change = refuse("too_many_pictures") if outcome == "failed" else BAD_REPLIES["no meta"][0]
    asking, _, _ = asked(folders, ready, tmp_path, tamper=only("bob", "offer", change))
    [line] = [line for line in Ledger(tmp_path / "ledger.jsonl").lines() if line["site"] == "bob"]
    assert (line["kind"], line["outcome"], line["reason"]) == ("offer", outcome, asking.set_aside["bob"])


def test_a_chunk_that_is_asked_for_many_times_is_sent_once(folders: Path, ready: Path, tmp_path: Path) -> None:
    greedy = only("bob", "offer", lambda r: replace(r, meta={**r.meta, "missing": [1] * 1000 + [0] * 1000}))
    _, _, sites = asked(folders, ready, tmp_path, tamper=greedy)
    assert count(sites)["bob"]["pictures"] == 2


def test_a_reason_is_short_and_printable_whatever_the_site_says(folders: Path, ready: Path, tmp_path: Path) -> None:
    loud = Reply(False, {"reason": "\x1b[2J" + "x" * 10**6, "reference": "\n" * 10**6})
    asking, _, _ = asked(folders, ready, tmp_path, tamper=only("bob", "masks", lambda r: loud))
    assert len(asking.set_aside["bob"]) < 300
    assert asking.set_aside["bob"].isprintable()


def test_a_ledger_line_that_was_cut_is_passed_over(folders: Path, ready: Path, tmp_path: Path) -> None:
    """By a full disk or a kill; the line after it is whole again."""
    asked(folders, ready, tmp_path)
    path = tmp_path / "ledger.jsonl"
    whole = Ledger(path).lines()
    path.write_bytes(path.read_bytes() + b'{"time": "2026-')
    assert Ledger(path).lines() == whole
    asked(folders, ready, tmp_path)
    assert len(Ledger(path).lines()) == len(whole) + 2  # both offers again


def no_student(job: StudentJob) -> None:
    raise AssertionError("no student is needed here")


def fused(folders: Path, run: Path, chunk: int = 8, **behaviour: Any) -> tuple[bytes, bytes]:
    """The fused masks and filter.csv after the acts up to the filter."""
    run.mkdir()
    study = study_of(folders, chunk, filter={"max_entropy": MEDIAN_BITS, "min_target_pixels": FIVE_PIXELS})
    acts = Run(study, run, hospitals(study, run, **behaviour), no_student)
    acts.predict()
    acts.fuse_and_filter()
    return np.asarray(acts.transferal.masks.group["pseudo"][:]).tobytes(), (run / "filter.csv").read_bytes()  # type: ignore[index]


FIVE_PIXELS, MEDIAN_BITS = 5 * 144, 6.05
"""α at 384×384 is 144 times that at 32×32; each rule excludes some of the 14 pictures and leaves some."""


def test_order_chunks_and_lateness_change_nothing(folders: Path, tmp_path: Path) -> None:
    """Byte for byte: the pseudo masks, and filter.csv, in which all three outcomes occur."""
    expected = fused(folders, tmp_path / "plain")
    assert {line.rsplit(b",", 2)[1] for line in expected[1].splitlines()[1:]} == {b"", b"few_targets", b"high_entropy"}
    others: dict[str, dict[str, Any]] = {
        "shuffled": {"order": 1},
        "shuffled otherwise": {"order": 2},
        "late": {"late": "ann"},
        "chunks of 1": {"chunk": 1, "order": 3},
        "chunks of 3": {"chunk": 3, "late": "bob"},
        "one chunk": {"chunk": 64},
        "recovered": {"tamper": only("ann", "masks", refuse("internal"), times=2), "order": 4},
    }
    for name, behaviour in others.items():
        assert fused(folders, tmp_path / name, **behaviour) == expected, name
