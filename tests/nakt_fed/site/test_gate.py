"""The policy gate in front of a real teacher service."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Barrier, Event, Thread
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nakt_fed.cli import site_records
from nakt_fed.codec import decode
from nakt_fed.data.pictures import content_hash
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.errors import RunError
from nakt_fed.exchange import Reply, Request
from nakt_fed.signing import signer
from nakt_fed.site.approvals import Approvals
from nakt_fed.site.gate import Gate
from nakt_fed.site.gate_sets import coarse
from nakt_fed.site.receipts import Receipts, verify
from nakt_fed.site.words import Judged, policy_in_words
from tests.nakt_fed.site.hospital import CHUNK, RUN, Coordinator, service_of, site_file, write_key
from tests.tiny import SIZE, bright

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_key(tmp_path)
    return tmp_path


@pytest.fixture
def coordinator(home: Path) -> Coordinator:
    return coordinator_of(home)


def coordinator_of(home: Path, now: datetime = NOON, **options: Any) -> Coordinator:
    """Its clock is that of the site."""
    return Coordinator(home, now=lambda: now, **options)


def gate_of(home: Path, now: datetime = NOON, **policy: Any) -> Gate:
    """A new process of the site: nothing is known but what lies in its folder."""
    file = site_file(home, **policy)
    return Gate(file, service_of(file), now=lambda: now)


def well(reply: Reply) -> Reply:
    assert reply.ok, reply.meta
    return reply


def refused(reply: Reply, reason: str) -> None:
    assert not reply.ok
    assert (reply.meta["reason"], reply.blob) == (reason, b""), reply.meta


def sent(gate: Gate, coordinator: Coordinator) -> Gate:
    for request in coordinator.everything():
        if request.kind != "masks":
            well(gate.handle(request))
    return gate


def test_a_signed_study_is_answered(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home)
    replies = [well(gate.handle(request)) for request in coordinator.everything()]
    np.testing.assert_array_equal(decode(replies[-1].blob, (2, 32, 32)), coordinator.pictures[8:])


@pytest.mark.parametrize("kind", ["hello", "prepare", "offer", "pictures", "masks", "evaluate"])
@pytest.mark.parametrize("spoil", ["none", "stranger", "altered", "garbage"])
def test_what_the_coordinator_did_not_sign_is_refused(
    home: Path, coordinator: Coordinator, spoil: str, kind: Any
) -> None:
    write_key(home, "stranger")
    right = coordinator.signed(Request(kind, {"set": "transferal"}))
    stranger = coordinator_of(home, key="stranger").signed(Request(kind, {"set": "transferal"}))
    changed = {
        "none": {"order": None, "signature": None},
        "stranger": stranger.meta,
        "altered": {"order": right.meta["order"].replace(RUN, "other")},
        "garbage": {"signature": "ä" * 50},
    }[spoil]
    refused(gate_of(home).handle(Request(kind, {**right.meta, **changed})), "not_signed")


@pytest.mark.parametrize("changes", [{"manifest": "0" * 64}, {"pictures": 9}], ids=str)
def test_an_offer_of_another_manifest_than_it_says(
    home: Path, coordinator: Coordinator, changes: dict[str, Any]
) -> None:
    refused(gate_of(home).handle(coordinator.offer(**changes)), "wrong_order")


@pytest.mark.parametrize("changes", [{"pictures": True}, {"chunk": 0}, {"set": "a\x1b[2J"}, {"set": None}], ids=str)
def test_an_offer_that_says_nonsense(home: Path, coordinator: Coordinator, changes: dict[str, Any]) -> None:
    refused(gate_of(home).handle(coordinator.offer(**changes)), "bad_request")


def test_an_order_serves_no_other_request(home: Path, coordinator: Coordinator) -> None:
    gate, offer = gate_of(home), coordinator.offer()
    refused(gate.handle(Request("offer", offer.meta, coordinator_of(home, seed=1).offer().blob)), "wrong_order")
    refused(gate.handle(Request("evaluate", offer.meta, offer.blob)), "wrong_order")
    refused(gate.handle(coordinator_of(home, run="a\x1b[2J").hello()), "wrong_order")


def test_only_what_was_signed_counts(home: Path, coordinator: Coordinator) -> None:
    """A relay may add words to a request, but they are not read."""
    gate, right = sent(gate_of(home), coordinator), coordinator.ask(0, 2)
    told = well(gate.handle(Request("masks", {**right.meta, "range": [2, 6], "manifest": "0" * 64})))
    assert told.meta["range"] == [0, 2]


def test_an_order_for_another_site_is_refused(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home)
    for request in (Request("hello"), Request("prepare"), Request("masks", {"set": "transferal"})):
        refused(gate.handle(coordinator.signed(request, site="bob")), "wrong_site")


@pytest.mark.parametrize(
    ("age", "fresh"),
    [
        (timedelta(minutes=-9), True),
        (timedelta(minutes=119), True),
        (timedelta(minutes=-11), False),
        (timedelta(minutes=121), False),
        (timedelta(days=400), False),
    ],
    ids=str,
)
def test_an_order_of_another_time_is_refused(home: Path, coordinator: Coordinator, age: timedelta, fresh: bool) -> None:
    """Also one that was answered once, recorded and replayed."""
    gate = sent(gate_of(home), coordinator)
    replayed = coordinator_of(home, NOON - age).ask(0, 4)
    reply = gate.handle(replayed)
    if fresh:
        well(reply)
    else:
        refused(reply, "stale_order")
        assert "check the clocks" in reply.meta["message"]


def test_a_time_that_is_none(home: Path, coordinator: Coordinator) -> None:
    class Never:
        def isoformat(self, timespec: str) -> str:
            return "now"

    sign = signer(home / "coordinator.key", RUN, Never)  # type: ignore[arg-type]
    refused(gate_of(home).handle(Request("hello", dict(sign("ann", Request("hello"))))), "wrong_order")


def test_apps_that_may_run(home: Path) -> None:
    """By the SHA-256 of the bundle; an empty list means none. Each question leaves a receipt with it."""
    app = Request("app", {}, b"bundle")
    digest = hashlib.sha256(b"bundle").hexdigest()
    for apps in ([], ["0" * 64]):
        refused(gate_of(home, apps=apps).handle(app), "app_not_approved")
    gate = gate_of(home, apps=["0" * 64, digest], expires=date(2029, 12, 31))
    well(gate.handle(app))
    lines = list(Receipts(gate.folder / "receipts.jsonl").lines())
    assert [line["outcome"] for line in lines] == ["app_not_approved", "app_not_approved", "ok"]
    assert {(line["kind"], line["sha256_in"]) for line in lines} == {("app", digest)}


@given(st.integers(0, 300), st.integers(0, 300), st.integers(1, 50))
def test_the_overlap_is_told_roughly_or_not_at_all(originals: int, overlap: int, least: int) -> None:
    """One picture more or less in a small set changes nothing, and in a large one hardly ever."""
    told = coarse({"missing": [], "overlap": overlap}, originals, least)
    assert told.pop("missing") == []
    if originals < least:
        assert told == {}
    else:
        assert told["overlap"] % least == 0
        assert 0 <= overlap - told["overlap"] < least


def test_one_picture_that_is_ours_is_not_told(home: Path, tmp_path: Path) -> None:
    """What a curious coordinator would ask: is this very picture yours, alone or among strangers."""
    own = synthetic_set(20, SIZE, seed=9)
    write_folder(own, tmp_path / "private")
    file = site_file(home, tmp_path / "private")
    gate = Gate(file, service_of(file), now=lambda: NOON)
    alone, among, all_of_them = (coordinator_of(home, count=count) for count in (1, 20, 20))
    for asks, ours in ((alone, 1), (among, 15), (all_of_them, 16)):
        hashes = tuple(content_hash(picture) for picture in own.images[:ours]) + asks.manifest.hashes[ours:]
        asks.manifest = replace(asks.manifest, hashes=hashes)
    assert "overlap" not in well(gate.handle(alone.offer())).meta
    assert well(gate.handle(among.offer())).meta["overlap"] == 0
    assert well(gate.handle(all_of_them.offer())).meta["overlap"] == 16


def test_a_set_of_too_many_pictures_is_refused(home: Path, coordinator: Coordinator) -> None:
    refused(gate_of(home, pictures_per_set=9).handle(coordinator.offer()), "too_many_pictures")
    well(gate_of(home, pictures_per_set=10).handle(coordinator.offer()))


def test_so_many_sets_a_day(home: Path) -> None:
    """The same one again is free, also after a restart; whatever becomes of an offer, it counts."""
    first, second, third = (coordinator_of(home, count=count) for count in (10, 11, 12))
    gate = gate_of(home, sets_per_day=2)
    well(gate.handle(first.offer()))
    well(gate.handle(second.offer()))
    again = gate_of(home, sets_per_day=2)
    refused(again.handle(third.offer()), "quota")
    well(again.handle(first.offer()))
    later = NOON + timedelta(days=1)
    well(gate_of(home, later, sets_per_day=2).handle(coordinator_of(home, later, count=12).offer()))


def test_after_its_last_day_a_site_says_hello_only(home: Path, coordinator: Coordinator) -> None:
    sent(gate_of(home), coordinator)
    well(gate_of(home, expires=date(2030, 1, 1)).handle(coordinator.ask(0, 4)))
    late = gate_of(home, expires=date(2029, 12, 31))
    well(late.handle(coordinator.hello()))
    prepare = coordinator.signed(Request("prepare"))
    for request in [coordinator.offer(), coordinator.send(0), coordinator.ask(4, 8), prepare]:
        refused(late.handle(request), "expired")


def test_a_run_waits_for_its_approval(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home, approval="by hand")
    for _ in range(2):
        refused(gate.handle(coordinator.offer()), "not_approved")
    approvals = Approvals(gate.folder)
    [(run, asked)] = approvals.waiting().items()
    assert run == RUN
    assert (asked["pictures"], asked["set"], asked["coordinator"]) == (10, "transferal", "coordinator.example:9092")
    approvals.approve(RUN)
    assert approvals.waiting() == {}
    for request in coordinator.everything():
        well(gate.handle(request))
    refused(gate.handle(coordinator_of(home, run="another").offer()), "not_approved")


def test_a_withdrawn_run_is_refused_at_once(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home, approval="by hand")
    approvals = Approvals(gate.folder)
    approvals.approve(RUN)
    sent(gate, coordinator)
    approvals.withdraw(RUN)
    refused(gate.handle(coordinator.ask(0, 4)), "not_approved")
    with pytest.raises(RunError, match="is not approved"):
        approvals.withdraw("unheard")


def test_a_withdrawn_run_is_refused_where_others_need_no_approval(home: Path, coordinator: Coordinator) -> None:
    """The policy was "by hand" when the run was approved; a withdrawal counts under the other one too."""
    gate = gate_of(home, approval="automatic")
    approvals = Approvals(gate.folder)
    approvals.approve(RUN)
    approvals.withdraw(RUN)
    refused(gate.handle(coordinator.offer()), "not_approved")
    well(gate.handle(coordinator_of(home, run="another").offer()))


def test_a_withdrawal_that_a_full_disk_breaks_off_can_be_repeated(tmp_path: Path) -> None:
    """A folder in the place of the second file's draft is what stops it here."""
    approvals, gate = Approvals(tmp_path), tmp_path / "gate"
    approvals.approve(RUN)
    for name in ("approved", "withdrawn"):
        draft = gate / f".{name}.json.{os.getpid()}.part"
        draft.mkdir()
        with pytest.raises(OSError, match="directory"):
            approvals.withdraw(RUN)
        draft.rmdir()
    approvals.withdraw(RUN)
    assert approvals.is_withdrawn(RUN)
    assert not approvals.is_approved(RUN)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_approvals_are_given_as_the_services_user(tmp_path: Path) -> None:
    """Root's files, with a umask of 077, are nothing that the service can read: it would answer no run at all."""
    os.chown(tmp_path, 65534, 65534)
    for change in (Approvals(tmp_path).approve, Approvals(tmp_path).withdraw):
        with pytest.raises(RunError, match="give this command as that user"):
            change(RUN)
    assert list(tmp_path.iterdir()) == []


OPERATOR = """
import sys
from pathlib import Path
from nakt_fed.site.approvals import Approvals

approvals, name = Approvals(Path(sys.argv[1])), sys.argv[2]
print("ready", flush=True)
sys.stdin.readline()
for number in range(30):
    approvals.approve(f"{name}-{number}")
    if number % 3 == 0:
        approvals.withdraw(f"{name}-{number}")
"""


def test_two_operators_at_the_same_moment_lose_nothing(tmp_path: Path) -> None:
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    names = ["ann", "bob"]
    operators = [subprocess.Popen([sys.executable, "-c", OPERATOR, str(tmp_path), name], **pipes) for name in names]
    for each in operators:
        assert each.stdout.readline() == "ready\n"
    for each in operators:
        each.stdin.write("now\n")
        each.stdin.flush()
    for each in operators:
        each.communicate(timeout=60)
        assert each.returncode == 0
    kept = {f"{name}-{number}" for name in names for number in range(30) if number % 3}
    assert Approvals(tmp_path).approved().keys() == kept


def test_only_accepted_manifests_are_answered(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home)
    refused(gate.handle(coordinator.send(0)), "not_offered")
    about = {"set": "transferal", "chunk": CHUNK, "manifest": "0" * 64, "pictures": 1}
    refused(gate.handle(coordinator.signed(Request("offer", about, b"{}"))), "bad_data")
    refused(gate.handle(coordinator.ask(0, 4)), "not_offered")
    sent(gate, coordinator)
    for changed in [{"set": "test-x"}, {"manifest": "0" * 64}, {"manifest": None}, {"manifest": [1]}]:
        refused(gate.handle(coordinator.ask(0, 4, **changed)), "not_offered")


def test_two_runs_at_once_have_sets_of_the_same_name(home: Path) -> None:
    """Each asks about its own pictures; what one offers does not take the other's away."""
    gate, runs = gate_of(home), [coordinator_of(home, seed=seed, run=f"run-{seed}") for seed in (0, 1)]
    steps = zip(*(each.everything() for each in runs), strict=True)
    replies = [[well(gate.handle(request)) for request in step] for step in steps]
    for each, reply in zip(runs, replies[-1], strict=True):
        np.testing.assert_array_equal(decode(reply.blob, (2, 32, 32)), each.pictures[8:])


def test_what_the_service_refuses_is_not_accepted(home: Path) -> None:
    """Chunks of 5,000 pictures: signed, but more than a service takes."""
    gate, big = gate_of(home), coordinator_of(home)
    refused(gate.handle(big.offer(chunk=5000)), "bad_data")
    refused(gate.handle(big.ask(0, 4)), "not_offered")


@pytest.mark.parametrize(
    "place",
    [[0, 11], [-1, 2], [3, 3], [4, 2], [0], [0, 1, 2], "04", None, [0.0, 2.0], [True, 2], [0, 10**400]],
    ids=str,
)
def test_ranges_that_are_none_are_refused(home: Path, coordinator: Coordinator, place: Any) -> None:
    gate = sent(gate_of(home), coordinator)
    refused(gate.handle(coordinator.ask(0, 4, range=place)), "bad_request")


def test_no_more_masks_at_once_than_a_chunk(home: Path, coordinator: Coordinator) -> None:
    refused(sent(gate_of(home), coordinator).handle(coordinator.ask(0, 5)), "too_large")


def test_the_days_pictures_are_counted_over_restarts(home: Path, coordinator: Coordinator) -> None:
    """8 a day: 4 + 4, then nothing new; what was answered is answered again; the next day the rest."""
    sent(gate_of(home, pictures_per_day=8), coordinator)
    for part in [(0, 4), (0, 4), (4, 8), (2, 6)]:
        well(gate_of(home, pictures_per_day=8).handle(coordinator.ask(*part)))
    refused(gate_of(home, pictures_per_day=8).handle(coordinator.ask(8, 10)), "quota")
    refused(gate_of(home, pictures_per_day=8).handle(coordinator.ask(6, 10)), "quota")
    for part in [(0, 4), (3, 7)]:
        well(gate_of(home, pictures_per_day=8).handle(coordinator.ask(*part)))
    tomorrow = datetime(2030, 1, 2, 0, 0, 1, tzinfo=UTC)
    well(gate_of(home, tomorrow, pictures_per_day=8).handle(coordinator_of(home, tomorrow).ask(6, 10)))
    assert json.loads((home / "state/gate/day.json").read_text())["pictures"] == 2


def test_a_clock_that_was_set_back_begins_no_day_anew(home: Path, coordinator: Coordinator) -> None:
    """Midnight comes twice: what was answered after the first one counts after the second one too."""
    before, after = datetime(2030, 1, 1, 23, 59, tzinfo=UTC), datetime(2030, 1, 2, 0, 1, tzinfo=UTC)
    sent(gate_of(home, pictures_per_day=4), coordinator)
    well(gate_of(home, after, pictures_per_day=4).handle(coordinator_of(home, after).ask(0, 4)))
    for now in (before, after):
        refused(gate_of(home, now, pictures_per_day=4).handle(coordinator_of(home, now).ask(4, 8)), "quota")


def test_a_manifest_offered_anew_stays_answered(home: Path, coordinator: Coordinator) -> None:
    gate = sent(gate_of(home, pictures_per_day=4), coordinator)
    well(gate.handle(coordinator.ask(0, 4)))
    well(gate.handle(coordinator_of(home, run="the next run").offer()))
    well(gate.handle(coordinator.ask(0, 4)))


def test_an_answer_that_failed_is_not_counted(home: Path, coordinator: Coordinator) -> None:
    file = site_file(home, pictures_per_day=4)
    good, bad = (
        Gate(file, service_of(file, teacher), lambda: NOON) for teacher in (bright, lambda x: x / 255 * np.nan)
    )
    sent(good, coordinator)
    refused(bad.handle(coordinator.ask(0, 4)), "bad_answer")
    well(good.handle(coordinator.ask(0, 4)))


def test_answers_at_the_same_time_do_not_exceed_the_quota(home: Path) -> None:
    """Two requests are inside the service together; there is room for one."""
    coordinator, file, meet = coordinator_of(home), site_file(home, pictures_per_day=4), Barrier(2)
    sent(Gate(file, service_of(file), lambda: NOON), coordinator)
    inside = Event()

    class Slow:
        def handle(self, request: Request) -> Reply:
            inside.set()
            meet.wait(5)
            return Reply(True)

    gate, replies = Gate(file, Slow(), lambda: NOON), []
    first = Thread(target=lambda: replies.append(gate.handle(coordinator.ask(0, 4))))
    first.start()
    assert inside.wait(5)
    refused(gate.handle(coordinator.ask(4, 8)), "quota")
    meet.wait(5)
    first.join()
    assert replies[0].ok


def test_binary_masks_where_the_policy_says_so(home: Path, coordinator: Coordinator) -> None:
    gate = sent(gate_of(home, answers="binary"), coordinator)
    reply = well(gate.handle(coordinator.ask(0, 4)))
    assert set(np.unique(decode(reply.blob, (4, 32, 32)))) == {0, 255}


def test_every_request_leaves_a_receipt(home: Path, coordinator: Coordinator) -> None:
    gate = gate_of(home)
    requests = [coordinator.hello(), coordinator.ask(0, 4), *coordinator.everything(), Request("forget")]  # type: ignore[arg-type]
    replies = [gate.handle(request) for request in requests]
    log = gate.folder / "receipts.jsonl"
    assert verify(log) == []
    lines = list(Receipts(log).lines())
    assert [line["kind"] for line in lines] == [*(request.kind for request in requests[:-1]), "unknown"]
    assert [line["outcome"] for line in lines] == ["ok", "not_offered", *["ok"] * 7, "bad_request"]
    assert [line["pictures"] for line in lines] == [0, 0, 10, 4, 4, 2, 4, 4, 2, 0]
    assert [line["bytes_in"] for line in lines] == [len(request.blob) for request in requests]
    assert [line["bytes_out"] for line in lines] == [len(reply.blob) for reply in replies]
    assert {line["run"] for line in lines[:-1]} == {RUN}


def test_without_a_receipt_no_answer_leaves(home: Path, coordinator: Coordinator) -> None:
    gate = sent(gate_of(home), coordinator)
    (gate.folder / "receipts.jsonl").unlink()
    (gate.folder / "receipts.jsonl").mkdir()
    refused(gate.handle(coordinator.ask(0, 4)), "internal")


def test_damaged_state_answers_nothing(home: Path, coordinator: Coordinator) -> None:
    gate = sent(gate_of(home), coordinator)
    (gate.folder / "gate" / "offers.json").write_text('{"')
    reply = gate.handle(coordinator.ask(0, 4))
    refused(reply, "internal")
    assert set(reply.meta) == {"reason", "reference"}
    assert "offers.json is damaged" in (gate.folder / "errors.jsonl").read_text()


def test_policy_in_words(home: Path, folders: Path) -> None:
    told = policy_in_words(
        site_file(home, folders / "ann", evaluate_student=True, pictures_per_day=5000), Judged(120, 110)
    )
    assert told[0].startswith("answers at most 5,000 pictures a day")
    assert told[0].endswith("coordinator.pub")
    assert any(
        "120 private pictures" in line and "only mean, standard deviation and number leave" in line for line in told
    )
    assert any(line.startswith("soft masks") for line in told)
    assert any(line.startswith("answers every run") for line in told)
    few = policy_in_words(site_file(home, folders / "ann", evaluate_student=True), Judged(12, 9))
    assert any("every evaluation will be refused" in line for line in few)
    strict = policy_in_words(site_file(home, answers="binary", approval="by hand", expires=date(2031, 5, 1)), None)
    assert any(line.startswith("binary masks") for line in strict)
    assert "no student may be evaluated here" in strict
    assert "answers until 2031-05-01 (UTC), then refuses" in strict


def site_toml(home: Path) -> Path:
    text = """
    site = { name = "ann", image_size = 32 }
    teacher = { network = "unet", width = 2, checkpoint = "teacher.safetensors" }
    [coordinator]
    address = "coordinator.example:9092"
    root_certificates = "ca.crt"
    public_key = "coordinator.pub"
    site_key = "site.key"
    """
    path = home / "site.toml"
    path.write_text("\n".join(line.strip() for line in text.splitlines()))
    return path


@pytest.fixture
def nakt(home: Path) -> Callable[..., str]:
    """A command of `nakt site`; gives what it prints."""
    path = site_toml(home)

    def run(*words: str, fails: type[Exception] | None = None) -> str:
        name, *rest = words
        nested = [rest.pop(0)] if name == "receipts" else []
        done = CliRunner().invoke(getattr(site_records, name), [*nested, str(path), *rest])
        assert (type(done.exception) if done.exception else None) is fails, done.exception
        return done.output + (str(done.exception) if done.exception else "")

    return run


def test_an_operator_approves_while_the_service_runs(
    home: Path, coordinator: Coordinator, nakt: Callable[..., str]
) -> None:
    gate = gate_of(home, approval="by hand")
    assert "0 runs waiting" in nakt("approvals")
    refused(gate.handle(coordinator.offer()), "not_approved")
    assert f"waits     {RUN}: set transferal, 10 pictures, for coordinator.example:9092" in nakt("approvals")
    assert nakt("approve", RUN) == f"run {RUN} is approved\n"
    well(gate.handle(coordinator.offer()))
    assert "has not asked yet" in nakt("approve", "typo")
    assert "0 runs waiting, 2 approved" in nakt("approvals")
    nakt("approve", RUN, "--withdraw")
    refused(gate.handle(coordinator.offer()), "not_approved")


def test_receipts_on_the_command_line(home: Path, coordinator: Coordinator, nakt: Callable[..., str]) -> None:
    assert nakt("receipts", "verify") == "no receipts yet\n"
    gate = sent(gate_of(home), coordinator)
    assert nakt("receipts", "verify").startswith("4 receipts, all as written; the last hash is ")
    assert f"offer    {RUN} transferal: 10 pictures" in nakt("receipts", "show")
    assert len(nakt("receipts", "show", "--last", "2").splitlines()) == 2
    log = gate.folder / "receipts.jsonl"
    log.write_bytes(log.read_bytes().replace(b'"pictures": 10', b'"pictures": 11'))
    assert "line 1 was changed" in nakt("receipts", "verify", fails=RunError)
