"""docs/schemas describes what a run writes, and refuses what it must not hold."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nakt_fed.checkpoint import Card
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.ledger import Ledger
from nakt_fed.recipe import NetworkSpec
from nakt_fed.status.document import document
from nakt_fed.status.reader import read_status
from nakt_fed.status.values import Epoch, RunStatus, SiteStatus, Stage, Told
from tests.nakt_fed.report_fixture import Kind, build_run
from tests.nakt_fed.status.story import Story, everything

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"
KINDS = {"full": Kind(), "bare": Kind(tests=(), held_out=0, fine_tune=False, filter=False, binary=True, views=0)}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_run(tmp_path_factory.mktemp("run"), KINDS[request.param])


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_fits_its_schemas(run: Path) -> None:
    validator("results").validate(read(run / "results.json"))
    for path in run.rglob("manifest.json"):
        validator("manifest").validate(read(path))
    for path in [*run.rglob("student.json"), *run.rglob("teacher.json")]:
        validator("student").validate(read(path))
    lines = (run / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    for line in lines:
        validator("ledger").validate(json.loads(line))
    assert len(lines) > 3


def test_the_checkpoint_schema_has_the_fields_of_the_code() -> None:
    """student.json is written from `Card`; the schema has no other fields and misses none."""
    schema = read(SCHEMAS / "student.schema.json")
    assert set(schema["properties"]) == set(schema["required"]) == set(Card.model_fields)
    assert set(schema["properties"]["network"]["properties"]) == set(NetworkSpec.model_fields)


FAULTS: dict[str, tuple[str, tuple[str | int, ...], Any]] = {
    "Dice in percent": ("results.json", ("dice", "student", "stu", "mean"), 71.2),
    "unknown model": ("results.json", ("dice", "pupil"), {}),
    "other version": ("results.json", ("version",), 2),
    "weight above one": ("results.json", ("weights", "busi"), 1.5),
    "negative bytes": ("results.json", ("bytes", "out"), -1),
    "a name instead of a count": ("results.json", ("overlaps", "busi"), "case 003"),
    "short hash": ("manifest.json", ("pictures", 0, "sha256"), "abc"),
    "size of one number": ("manifest.json", ("pictures", 0, "size"), [96]),
    "no views is null": ("manifest.json", ("views", "per_picture"), 0),
    "weights of an unknown network": ("student.json", ("network", "network"), None),
    "a key beside": ("student.json", ("pickle",), "gASV"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_refused(fault: str, tmp_path: Path) -> None:
    name, (*place, last), value = FAULTS[fault]
    content = copy.deepcopy(read(build_run(tmp_path, Kind(pictures=3, views=1, tested=2, size=32)) / name))
    part = content
    for key in place:
        part = part[key]
    assert validator(name.removesuffix(".json")).is_valid(content)
    part[last] = value
    assert not validator(name.removesuffix(".json")).is_valid(content)


def test_a_failure_in_the_ledger_needs_its_reason() -> None:
    line = {
        "time": "2026-01-05T14:22:33.000+00:00",
        "site": "busi",
        "kind": "masks",
        "set": "test-stu",
        "chunk": 0,
        "pictures": 16,
    }
    line |= {"bytes_out": 0, "bytes_back": 0, "seconds": 0.4, "sha256": "0" * 64, "outcome": "failed"}
    assert not validator("ledger").is_valid(line)
    assert validator("ledger").is_valid(line | {"reason": "unreachable"})


def test_a_student_that_was_judged_at_a_site_is_in_the_ledger(tmp_path: Path) -> None:
    done = Exchange("busi", Request("evaluate", {}, b"student"), Reply(False, {"reason": "no_evaluation"}), 0.1)
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.write(done, "private", None, 0, "failed", "no_evaluation")
    [line] = ledger.lines()
    validator("ledger").validate(line)


def status(folder: Path) -> Any:
    """As `nakt status --json` says it: through JSON, which has no tuples."""
    return json.loads(json.dumps(document(read_status(folder))))


def test_every_state_of_a_run_fits_the_schema_of_its_status(tmp_path: Path) -> None:
    seen = set()
    for name in ("empty", "between", "simulated", "learns", "failed", "done"):
        story = Story(tmp_path / name, "ann", simulated=name == "simulated", prepared=name != "empty")
        if name == "between":
            story = everything(tmp_path / "everything")
        if name == "learns":
            story.stage("student")
            story.epoch("student", 2, 5)
        if name == "failed":
            story.raw(kind="error", message="the disk is full")
        if name == "done":
            story.finish()
        told = status(story.folder)
        validator("status").validate(told)
        seen |= {told["state"], *(site["connection"] for site in told["sites"])}
    assert seen >= {
        "starting",
        "running",
        "failed",
        "done",
        "local",
        "not_seen",
        "connected",
        "away",
        "waiting",
        "set_aside",
    }


def test_the_schema_of_the_status_has_the_fields_of_the_code() -> None:
    schema = read(SCHEMAS / "status.schema.json")
    parts = schema["$defs"] | {"run": schema, "stage": schema["properties"]["stages"]["items"]}
    beside = {"run": {"version", "words"}, "site": {"words"}, "stage": {"words"}}
    for name, kind in {"run": RunStatus, "site": SiteStatus, "stage": Stage, "epoch": Epoch, "told": Told}.items():
        fields = {field.name for field in dataclasses.fields(kind)} | beside.get(name, set())
        assert set(parts[name]["properties"]) == set(parts[name]["required"]) == fields, name


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("version",), 2),
        (("state",), "asleep"),
        (("sites", 0, "connection"), "gone"),
        (("sites", 0, "chunks"), -1),
        (("sites", 0, "sending"), [1]),
        (("stages", 0, "state"), "later"),
        (("words", "headline"), ""),
    ],
)
def test_a_status_that_cannot_be_is_refused(tmp_path: Path, place: tuple[str | int, ...], value: Any) -> None:
    told = status(everything(tmp_path).folder)
    *path, last = place
    part = told
    for key in path:
        part = part[key]
    part[last] = value
    assert not validator("status").is_valid(told)
