"""A student fine-tuned at a site: the site's rules come first, only numbers leave, and nothing is trained twice."""

import csv
import hashlib
import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.errors import StudyError
from nakt_fed.exchange import Reply, Request
from nakt_fed.locks import only_one
from nakt_fed.processes import below
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.service import TeacherService
from nakt_fed.site.approvals import Approvals
from nakt_fed.site.desk import LIMIT, STUDENT_LIMIT
from nakt_fed.site.gate import Gate
from nakt_fed.site.personal_job import Job, Trainer
from nakt_fed.site.personal_list import listed
from nakt_fed.site.personal_process import Beside
from nakt_fed.site.personal_runs import PersonalRuns
from nakt_fed.site.personal_training import train_here
from nakt_fed.site.receipts import Receipts
from nakt_fed.site.serve import limit_of
from nakt_fed.site.words import Judged, policy_in_words
from nakt_fed.site_data import PrivateData
from nakt_fed.teacher import fresh_network
from nakt_fed.training_state import EpochLog
from tests.disk import small_disk
from tests.nakt_fed.site.desk import wait_for
from tests.nakt_fed.site.hospital import RUN, SECRET, Coordinator, service_of, site_file, write_key, write_private
from tests.tiny import SIZE

COUNT, HELD_OUT = 24, 12
UNET = {"network": "unet", "width": 2}
RECIPE = Recipe(epochs=2, batch_size=4, learning_rate=1e-3).model_dump(mode="json")


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotated pictures whose files are called after a patient."""
    return write_private(tmp_path_factory.mktemp("ward"), COUNT)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_key(tmp_path)
    return tmp_path


def weights(seed: int = 1) -> bytes:
    return save(fresh_network(NetworkSpec(**UNET), seed).state_dict())


def gate_of(home: Path, private: Path, trainer: Trainer | None = None, **policy: Any) -> Gate:
    file = site_file(home, private, 0.5, **{"personalise_student": True, **policy})
    service = service_of(file)
    service.trainer = trainer or service.trainer
    return Gate(file, service)


def outcome(reply: Reply) -> str:
    return "ok" if reply.ok else str(reply.meta["reason"])


def carried_out(gate: Gate, home: Path, recipe: dict[str, Any] = RECIPE, student: bytes | None = None) -> Reply:
    """As the coordinator asks it."""
    coordinator, blob = Coordinator(home), student or weights()
    assert outcome(gate.handle(coordinator.personalise(blob, UNET, recipe))) == "send_student"
    assert gate.handle(coordinator.personalise(blob, UNET, recipe, send=True)) == Reply(True, {"taken": True})
    return gate.handle(coordinator.personalise(blob, UNET, recipe))


def folder_of(home: Path) -> Path:
    [folder] = (home / "state" / "personalised").iterdir()
    return folder


def no_training(job: Any, data: Any) -> str:
    raise AssertionError("it is trained again")


def test_only_numbers_leave_and_the_student_stays(home: Path, private: Path) -> None:
    reply = carried_out(gate_of(home, private), home)
    assert reply.ok, reply.meta
    assert reply.blob == b""
    assert reply.meta.keys() == {"n", "teacher", "student", "personalised"}
    assert reply.meta["n"] == HELD_OUT
    assert all(reply.meta[name].keys() == {"mean", "std"} for name in ("teacher", "student", "personalised"))
    folder = folder_of(home)
    assert {path.name for path in folder.iterdir()} == {
        "student.safetensors", "student.json", "history.csv", "numbers.json",
    }  # fmt: skip
    model, card = load_checkpoint(folder / "student.safetensors")
    assert card["provenance"]["personalised_at"] == "ann"
    assert card["provenance"]["n_images"] + HELD_OUT <= COUNT
    assert any(not np.array_equal(kept, load(weights())[name]) for name, kept in model.state_dict().items())


def test_what_is_measured_is_never_learned_from(home: Path, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nakt_fed.site import personal_training

    learned: list[str] = []
    fit = personal_training.fit

    def watched(model: Any, train: Any, recipe: Any, **more: Any) -> Any:
        learned.extend([*train.ids, *more["validation"].ids])
        return fit(model, train, recipe, **more)

    monkeypatch.setattr(personal_training, "fit", watched)
    gate = gate_of(home, private)
    assert carried_out(gate, home).ok
    service = gate.inner
    assert isinstance(service, TeacherService)
    assert len(learned) == COUNT - HELD_OUT
    assert not set(learned) & set(service.data.test.ids)


def test_who_asks_again_gets_the_same_numbers_and_nothing_is_trained(home: Path, private: Path) -> None:
    told = carried_out(gate_of(home, private), home)
    again = gate_of(home, private, no_training)
    assert again.handle(Coordinator(home, run="another").personalise(weights(), UNET, RECIPE)) == told
    other = again.handle(Coordinator(home).personalise(weights(), UNET, {**RECIPE, "epochs": 3}))
    assert outcome(other) == "send_student", "another recipe is another student"


def test_other_masks_make_it_another_student(home: Path, private: Path, tmp_path: Path) -> None:
    assert carried_out(gate_of(home, private), home).ok
    mended = tmp_path / "mended"
    write_folder(synthetic_set(COUNT, SIZE, 6), mended)
    assert (
        outcome(gate_of(home, mended).handle(Coordinator(home).personalise(weights(), UNET, RECIPE))) == "send_student"
    )


def test_the_policy_comes_first(home: Path, private: Path) -> None:
    coordinator, blob = Coordinator(home), weights()
    good = coordinator.personalise(blob, UNET, RECIPE, send=True)
    assert outcome(gate_of(home, private, personalise_student=False).handle(good)) == "no_personalisation"
    assert outcome(gate_of(home, private, approval="by hand").handle(good)) == "not_approved"
    gate = gate_of(home, private)
    assert outcome(gate.handle(Request("personalise", {"network": UNET}, blob))) == "not_signed"
    assert outcome(gate.handle(Request("personalise", good.meta, weights(5)))) == "wrong_order"
    assert outcome(gate.handle(coordinator.judge(blob, UNET))) == "no_evaluation"
    assert not (home / "state" / "personalised").exists()


@pytest.mark.parametrize(("key", "most"), [("epochs", 200), ("batch_size", 16), ("learning_rate", 0.01)])
def test_the_recipe_has_bounds(home: Path, private: Path, key: str, most: float) -> None:
    coordinator, gate = Coordinator(home), gate_of(home, private)
    assert outcome(gate.handle(coordinator.personalise(weights(), UNET, {**RECIPE, key: most}))) == "send_student"
    over = gate.handle(coordinator.personalise(weights(), UNET, {**RECIPE, key: 2 * most}))
    assert outcome(over) == "recipe_not_allowed"
    assert f"lower fine_tune.{key}" in over.meta["message"]


def test_students_a_day(home: Path, private: Path) -> None:
    """One a day, by what was begun, also over a restart; what is known already is always told."""
    told = carried_out(gate_of(home, private), home)
    gate, coordinator = gate_of(home, private), Coordinator(home)
    assert outcome(gate.handle(coordinator.personalise(weights(2), UNET, RECIPE, send=True))) == "quota"
    assert gate.handle(coordinator.personalise(weights(), UNET, RECIPE)) == told
    assert (
        gate_of(home, private, personalisations_per_day=2)
        .handle(coordinator.personalise(weights(2), UNET, RECIPE, send=True))
        .ok
    )


def test_too_few_pictures_say_no_number(home: Path, private: Path) -> None:
    few = gate_of(home, private, min_evaluated=HELD_OUT + 1).handle(
        Coordinator(home).personalise(weights(), UNET, RECIPE)
    )
    assert outcome(few) == "too_few_images"
    assert not any(letter.isdigit() for letter in few.meta["message"])
    assert carried_out(gate_of(home, private, min_evaluated=HELD_OUT), home).ok
    stored = gate_of(home, private, min_evaluated=HELD_OUT + 1)
    assert outcome(stored.handle(Coordinator(home).personalise(weights(), UNET, RECIPE))) == "too_few_images"


@pytest.mark.parametrize(
    "spoilt", [{"student": "../../etc"}, {"network": 7}, {"recipe": {"epochs": 0}}, {"recipe": None}, {"more": 1}]
)
def test_an_order_that_is_none(home: Path, private: Path, spoilt: dict[str, Any]) -> None:
    good = json.loads(Coordinator(home).personalise(weights(), UNET, RECIPE).meta["order"])["meta"]
    request = Coordinator(home).signed(Request("personalise", {**good, **spoilt}))
    assert outcome(gate_of(home, private).handle(request)) == "bad_request"


def test_a_student_that_does_not_fit_is_not_taken(home: Path, private: Path) -> None:
    gate, coordinator = gate_of(home, private, personalisations_per_day=9), Coordinator(home)
    for blob, network in (
        (b"\x80\x04K\x01.", UNET),
        (weights(), {"network": "os:getcwd"}),
        (weights(), {**UNET, "width": 4}),
    ):
        assert outcome(gate.handle(coordinator.personalise(blob, network, RECIPE, send=True))) == "bad_answer"
    good = json.loads(coordinator.personalise(weights(1), UNET, RECIPE).meta["order"])["meta"]
    assert outcome(gate.handle(coordinator.signed(Request("personalise", good, weights(2))))) == "bad_answer"
    assert not (home / "state" / "personalised").exists()


def test_a_training_that_fails_tells_a_reference_only(home: Path, private: Path) -> None:
    def fails(job: Any, data: Any) -> str:
        raise OSError(f"{private}/{SECRET}.png")

    reply = carried_out(gate_of(home, private, fails), home)
    assert reply.meta.keys() == {"reason", "reference"}
    assert SECRET in (home / "state" / "errors.jsonl").read_text()


def test_receipts_have_every_step(home: Path, private: Path) -> None:
    carried_out(gate_of(home, private), home)
    lines = [line for line in Receipts(home / "state" / "receipts.jsonl").lines() if line["kind"] == "personalise"]
    assert [line["outcome"] for line in lines] == ["send_student", "ok", "ok"]
    assert lines[1]["bytes_in"] == len(weights())


def wait_while(gate: Gate, request: Request, seconds: float = 180) -> tuple[Reply, list[str]]:
    """Until the training is over; what the site said of its progress."""
    said, end = [], time.monotonic() + seconds
    while (reply := gate.handle(request)).meta.get("reason") == "training" and time.monotonic() < end:
        said.append(str(reply.meta["message"]))
        time.sleep(0.05)
    return reply, said


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def wait_for_epochs(folder: Path, count: int) -> None:
    wait_for(lambda: (folder / "history.csv").exists() and len(rows(folder)) >= count, 180)


@pytest.fixture
def beside() -> Iterator[Beside]:
    trainer = Beside()
    yield trainer
    trainer.end()


@pytest.mark.slow
def test_beside_the_service_killed_and_gone_on_with(home: Path, private: Path, tmp_path: Path, beside: Beside) -> None:
    """The service answers others meanwhile; the second process keeps the first one's epochs and ends as one undisturbed."""
    recipe = {**RECIPE, "epochs": 40}
    gate, coordinator = gate_of(home, private, beside), Coordinator(home)
    request = coordinator.personalise(weights(), UNET, recipe)
    assert outcome(carried_out(gate, home, recipe)) == "training"
    assert gate.handle(coordinator.hello()).ok
    folder = folder_of(home)
    wait_for_epochs(folder, 3)
    for pid in below(os.getpid()):
        if b"personal_process" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    beside.end()
    before = rows(folder)[:-1]  # the last one may not be in last.pt
    assert 2 <= len(before) < 39
    again = gate_of(home, private, beside)  # a service that was started again
    told, said = wait_while(again, request)
    assert told.ok, told.meta
    assert all(line.endswith("of 40 is done") for line in said)
    assert rows(folder)[: len(before)] == before, "epochs were trained again"
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    write_key(undisturbed)
    assert carried_out(gate_of(undisturbed, private), undisturbed, recipe) == told
    assert (folder_of(undisturbed) / "student.safetensors").read_bytes() == (
        folder / "student.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_a_process_of_its_own_that_fails(home: Path, private: Path, beside: Beside) -> None:
    recipe = {**RECIPE, "learning_rate": 0.01}
    poor = save({name: value * 1e30 if value.is_floating_point() else value for name, value in load(weights()).items()})
    gate = gate_of(home, private, beside)
    assert outcome(carried_out(gate, home, recipe, poor)) == "training"
    failed, _ = wait_while(gate, Coordinator(home).personalise(poor, UNET, recipe))
    assert failed.meta.keys() == {"reason", "reference"}
    assert failed.meta["reason"] == "training_failed"
    assert "the loss is nan" in (home / "state" / "errors.jsonl").read_text()


@pytest.mark.slow
def test_a_withdrawn_approval_ends_the_training_beside_the_service(home: Path, private: Path, beside: Beside) -> None:
    recipe, approvals = {**RECIPE, "epochs": 200}, Approvals(home / "state")
    gate, request = gate_of(home, private, beside, approval="by hand"), order(home, recipe)
    approvals.approve(RUN)
    assert outcome(carried_out(gate, home, recipe)) == "training"
    folder, guard = folder_of(home), beside.guard
    assert guard is not None
    wait_for_epochs(folder, 1)
    approvals.withdraw(RUN)
    assert outcome(gate.handle(request)) == "approval_withdrawn"
    assert guard.wait(60) == 1
    assert list((home / "state" / "personalised").iterdir()) == []
    approvals.approve(RUN)
    assert outcome(carried_out(gate, home, recipe)) == "training", "approved again, it begins anew"


@pytest.mark.slow
def test_a_policy_that_has_expired_ends_the_training_beside_the_service(
    home: Path, private: Path, beside: Beside
) -> None:
    """Whether or not the coordinator asks again: the process itself looks at the date."""
    beside.expires = datetime.now(UTC).date() - timedelta(days=1)
    gate = gate_of(home, private, beside)
    assert outcome(carried_out(gate, home, {**RECIPE, "epochs": 200})) == "training"
    guard = beside.guard
    assert guard is not None
    assert guard.wait(60) == 1
    assert list((home / "state" / "personalised").iterdir()) == []


@pytest.mark.slow
def test_pictures_that_changed_since_the_service_began_are_not_learned_from(home: Path, beside: Beside) -> None:
    """The training reads the folder anew, so its test share would be another than the one that the service measures on."""
    ward = write_private(home, COUNT)
    gate = gate_of(home, ward, beside)
    assert gate.handle(order(home)).meta["reason"] == "send_student"
    lost = sorted((ward / "images").iterdir())[0]
    lost.unlink()
    assert outcome(carried_out(gate, home)) == "training"
    failed, _ = wait_while(gate, order(home))
    assert failed.meta.keys() == {"reason", "reference"}
    assert failed.meta["reason"] == "training_failed"
    assert "start the service again" in (home / "state" / "errors.jsonl").read_text()
    assert not (folder_of(home) / "student.safetensors").exists()


@pytest.mark.slow
def test_a_full_disk_is_said_and_gone_on_with_when_there_is_room(home: Path, private: Path, beside: Beside) -> None:
    """Only the students' own disk is full, a real one: the site's records lie on another."""
    recipe = {**RECIPE, "epochs": 30}
    with small_disk(home / "state" / "personalised", 8) as disk:
        gate, request = gate_of(home, private, beside), order(home, recipe)
        assert outcome(carried_out(gate, home, recipe)) == "training"
        folder = beside.folder
        assert folder is not None
        wait_for_epochs(folder, 2)
        disk.fill()
        full, _ = wait_while(gate, request)
        assert full.meta.keys() == {"reason", "reference"}
        assert full.meta["reason"] == "disk_full"
        begun = torch.load(folder / "last.pt", weights_only=True)["history"]
        assert 1 <= len(begun) < 30
        disk.free()
        told, _ = wait_while(gate, request)
        assert told.ok, told.meta
        assert [float(row["loss"]) for row in rows(folder)[: len(begun)]] == [log["loss"] for log in begun], (
            "trained again"
        )
        beside.end()


def order(home: Path, recipe: dict[str, Any] = RECIPE, send: bool = False, run: str = RUN) -> Request:
    return Coordinator(home, run=run).personalise(weights(), UNET, recipe, send)


def test_a_withdrawn_approval_is_seen_after_the_next_epoch(home: Path, private: Path) -> None:
    done, approvals = [], Approvals(home / "state")

    def each(log: EpochLog) -> None:
        done.append(log.epoch)
        if log.epoch == 2:
            approvals.withdraw(RUN)

    gate = gate_of(home, private, lambda job, data: train_here(job, data, each), approval="by hand")
    approvals.approve(RUN)
    assert outcome(carried_out(gate, home, {**RECIPE, "epochs": 9})) == "training_failed"
    assert done == [1, 2]
    assert outcome(gate.handle(order(home, {**RECIPE, "epochs": 9}))) == "approval_withdrawn"
    assert list((home / "state" / "personalised").iterdir()) == []


def test_the_end_of_the_last_day_is_seen_after_the_next_epoch(home: Path, private: Path) -> None:
    """Two epochs before midnight, the third is the last."""
    last, done = datetime.now(UTC).date(), []
    recipe = {**RECIPE, "epochs": 9}

    def now() -> datetime:
        return datetime.combine(last, datetime.max.time(), UTC) + timedelta(seconds=int(len(done) >= 2))

    def trainer(job: Job, data: PrivateData) -> str:
        dated = job.model_copy(update={"expires": last})
        return train_here(dated, data, lambda log: done.append(log.epoch), now)

    gate = gate_of(home, private, trainer, expires=last)
    assert outcome(carried_out(gate, home, recipe)) == "training_failed"
    assert done == [1, 2]
    assert "the policy's last day is past" in (home / "state" / "errors.jsonl").read_text()
    assert list((home / "state" / "personalised").iterdir()) == []
    gate.now = lambda: datetime.now(UTC) + timedelta(days=1)
    tomorrow = Coordinator(home, now=gate.now).personalise(weights(), UNET, recipe)
    assert outcome(gate.handle(tomorrow)) == "expired"


def test_what_was_begun_stays_as_long_as_a_run_wants_it(home: Path, private: Path) -> None:
    gate, approvals, kept = (
        gate_of(home, private, approval="by hand"),
        Approvals(home / "state"),
        PersonalRuns(home / "state"),
    )
    for run in (RUN, "another"):
        approvals.approve(run)
    assert gate.handle(order(home, send=True)).ok
    gate.inner.trainer = lambda job, data: "it goes on"  # type: ignore[attr-defined]
    assert outcome(gate.handle(order(home, run="another"))) == "training"
    approvals.withdraw(RUN)
    assert kept.drop() == 0
    assert folder_of(home).exists(), "the other run wants it"
    approvals.withdraw("another")
    with only_one(folder_of(home)):
        assert kept.drop() == 1, "it is being trained"
    assert kept.drop() == 0
    assert list((home / "state" / "personalised").iterdir()) == []


def test_a_site_that_allows_it_no_more_keeps_what_is_finished_only(home: Path, private: Path) -> None:
    assert carried_out(gate_of(home, private), home).ok
    finished = folder_of(home)
    assert gate_of(home, private, personalisations_per_day=2).handle(order(home, {**RECIPE, "epochs": 3}, send=True)).ok
    PersonalRuns(home / "state").drop()
    assert len(list(finished.parent.iterdir())) == 2
    PersonalRuns(home / "state").drop(all_unfinished=True)
    assert list(finished.parent.iterdir()) == [finished]


def test_the_site_file_asks_for_a_test_share(home: Path, private: Path) -> None:
    with pytest.raises(StudyError, match="test_share"):
        site_file(home, private, personalise_student=True)
    told = " ".join(policy_in_words(site_file(home, private, 0.5, personalise_student=True), Judged(200, 200)))
    assert "fine-tuned here" in told
    assert "no student may be fine-tuned here" in " ".join(policy_in_words(site_file(home, private), Judged(200, 200)))


def test_only_where_a_student_may_come_a_large_request_is_read(home: Path, private: Path) -> None:
    allowed = [{"personalise_student": True}, {"evaluate_student": True}]
    assert [limit_of(site_file(home, private, 0.5, **policy)) for policy in allowed] == [STUDENT_LIMIT] * 2
    assert limit_of(site_file(home, private, 0.5)) == LIMIT


def test_the_operator_finds_it(home: Path, private: Path) -> None:
    state = home / "state"
    assert listed(state) == []
    told = carried_out(gate_of(home, private), home).meta
    text = "\n".join(listed(state))
    assert str(folder_of(home) / "student.safetensors") in text
    assert hashlib.sha256(weights()).hexdigest() in text
    assert f"personalised {100 * told['personalised']['mean']:.1f}" in text
    (folder_of(home) / "numbers.json").unlink()
    assert "not finished" in "\n".join(listed(state))
