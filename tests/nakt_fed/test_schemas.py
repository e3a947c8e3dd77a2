"""docs/schemas describes what a run writes, and refuses what it must not hold."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from nakt_fed.checkpoint import Card
from nakt_fed.study import NetworkSpec
from tests.nakt_fed.report_fixture import Kind, build_run

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
