"""A whole study between real processes gives what the oracle gives, whatever is killed meanwhile."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nakt_fed.site.receipts import FILE, Receipts
from nakt_fed.site.site_file import load_site
from tests.deployment.compare import assert_same_classes, assert_same_masks, oracle_of
from tests.deployment.federation import Federation
from tests.deployment.running import Running, Started, wait_for
from tests.deployment.studies import Asked

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


ONE_CLASS: Asked = {"ann": [], "bob": []}
SEVERAL: Asked = {"ann": ["lesion"], "cem": ["lesion", "nodule"]}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, dict[str, Started]]]:
    """`bob` answers only what its operator has approved; `ann` has the student fine-tuned too; `cem` knows two classes, lets
    a student be evaluated, and is there only where it is started."""
    policy = {
        "bob": {"approval": "by hand"},
        "ann": {"personalise_student": True, "min_evaluated": 2},
        "cem": {"evaluate_student": True},
    }
    classes = {site: list(names) for site, names in SEVERAL.items()}
    place, names = tmp_path_factory.mktemp("federation"), ("ann", "bob", "cem")
    with Federation(place, names, policy=policy, classes=classes) as federation:
        yield federation, {"coordinator": federation.start_coordinator(), **federation.start_sites(*ONE_CLASS)}


def approve(federation: Federation, run: Path) -> None:
    """As soon as the run waits for it."""
    waits = lambda: run.name in federation.nakt("site", "approvals", federation.site("bob")).stdout  # noqa: E731
    wait_for(waits, 60, "the run at the site")
    assert federation.nakt("site", "approve", federation.site("bob"), run.name).returncode == 0


def assert_personalised_at_ann(federation: Federation, running: Running) -> None:
    """The student has not left, the numbers have; what was asked and answered is in the receipts of both sides."""
    told = json.loads((running.folder / "results.json").read_text())["personalised"]
    assert told["bob"] == {"refused": "no_personalisation"}
    assert told["ann"].keys() == {"n", "teacher", "student", "personalised"}
    assert told["ann"]["n"] == 2
    assert "Personalised at the sites" in running.said
    listed = federation.nakt("site", "personalised", federation.site("ann")).stdout
    assert hashlib.sha256((running.folder / "student.safetensors").read_bytes()).hexdigest() in listed
    logs = {"ann": load_site(federation.site("ann")).site.folder, "coordinator": running.folder}
    for name, folder in logs.items():
        lines = [
            each for each in Receipts(folder / FILE).lines() if (each["kind"], each["outcome"]) == ("personalise", "ok")
        ]
        assert len(lines) == 2, name
        assert sum(line["bytes_out" if name == "ann" else "bytes_in"] for line in lines) == 0, name


def test_an_undisturbed_run_gives_what_the_oracle_gives(parts: tuple[Federation, dict[str, Started]]) -> None:
    federation, _ = parts
    few = {"at_sites": True, "epochs": 2, "validation": 0.0}
    study = federation.write_study("calm", pictures=4, asked=ONE_CLASS, fine_tune=few)
    running = federation.run(study)
    oracle = oracle_of(federation, "calm", asked=ONE_CLASS)
    folder = load_site(federation.site("bob")).site.folder
    wait_for(lambda: (folder / "gate" / "waiting.json").exists(), 60, "a run that waits")
    assert not [row for row in running.answered() if row[0] == "bob"]
    approve(federation, running.folder)
    assert running.process.wait(200) == 0, running.said
    assert_same_masks(running.folder, oracle)
    assert (running.folder / "student.safetensors").read_bytes() == (oracle / "student.safetensors").read_bytes()
    status = json.loads(federation.nakt("status", "--json", running.folder).stdout)
    assert (status["state"], [site["chunks"] for site in status["sites"]]) == ("done", [2, 2])
    assert_personalised_at_ann(federation, running)
    for name in ONE_CLASS:
        done = federation.nakt("site", "receipts", "verify", federation.site(name))
        assert (done.returncode, "all as written" in done.stdout) == (0, True), done.stderr


@pytest.mark.soak
def test_sites_of_different_classes_give_what_the_oracle_gives(parts: tuple[Federation, dict[str, Started]]) -> None:
    """And the student is judged at the site that allows it, by each class that this site knows."""
    federation, _ = parts
    federation.start_sites("cem")
    tables = {"asked": SEVERAL, "round": {"judge_student": True}}
    running = federation.run(federation.write_study("labels", pictures=4, seed=2, **tables))
    oracle = oracle_of(federation, "labels", **tables)
    assert running.process.wait(200) == 0, running.said
    assert_same_classes(running.folder, oracle, SEVERAL)
    assert (running.folder / "student.safetensors").read_bytes() == (oracle / "student.safetensors").read_bytes()
    told, expected = (json.loads((run / "results.json").read_text())["at_sites"] for run in (running.folder, oracle))
    assert told.keys() == {"ann", "cem:lesion", "cem:nodule"}
    assert told["ann"] == {"refused": "no_evaluation"}
    for title in ("cem:lesion", "cem:nodule"):
        assert told[title] == expected[title]
        assert told[title]["n"] == 12
    assert told["cem:lesion"] != told["cem:nodule"]
    assert "cem:nodule" in running.said


def test_kills_of_every_part_change_no_mask(parts: tuple[Federation, dict[str, Started]]) -> None:
    """A teacher service in mid-chunk, the SuperLink, the coordinator's app."""
    federation, processes = parts
    study = federation.write_study("stormy", pictures=6, seed=1, asked=ONE_CLASS)
    oracle = oracle_of(federation, "stormy", asked=ONE_CLASS)
    federation.mark("ann").unlink(missing_ok=True)
    running = federation.run(study)
    approve(federation, running.folder)
    wait_for(federation.mark("ann").exists, 60, "the first chunk")
    processes["ann"].kill("serve")
    processes["ann"].wait_for("teacher service started again")
    running.wait_for_answers(1)
    processes["coordinator"].kill("server.superlink")
    before = len(running.answered())
    processes["coordinator"].wait_for("superlink started again")
    running.wait_for_answers(before + 1)
    federation.look()
    processes["coordinator"].kill("flwr-serverapp")
    assert running.process.wait(60) == 1
    assert "--resume" in running.said
    again = federation.resume(running.folder)
    again.wait_for_fusion()
    assert again.end() == 130
    assert_same_masks(running.folder, oracle)
    assert sorted(running.answered()) == sorted({(site, "transferal", c) for site in ONE_CLASS for c in range(3)})
    assert not processes["coordinator"].find("flwr-serverapp"), "the app outlives `nakt run`"
