"""A whole study between real processes gives what the oracle gives, whatever is killed meanwhile."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from nakt_fed.site.site_file import load_site
from tests.deployment.compare import assert_same_masks, oracle_of
from tests.deployment.federation import Federation
from tests.deployment.running import Started, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, dict[str, Started]]]:
    """`bob` answers only what its operator has approved."""
    policy = {"bob": {"approval": "by hand"}}
    with Federation(tmp_path_factory.mktemp("federation"), policy=policy) as federation:
        yield federation, federation.start_all()


def approve(federation: Federation, run: Path) -> None:
    """As soon as the run waits for it."""
    waits = lambda: run.name in federation.nakt("site", "approvals", federation.site("bob")).stdout  # noqa: E731
    wait_for(waits, 60, "the run at the site")
    assert federation.nakt("site", "approve", federation.site("bob"), run.name).returncode == 0


def test_an_undisturbed_run_gives_what_the_oracle_gives(parts: tuple[Federation, dict[str, Started]]) -> None:
    federation, _ = parts
    study = federation.write_study("calm", pictures=4)
    running = federation.run(study)
    oracle = oracle_of(federation, "calm")
    folder = load_site(federation.site("bob")).site.folder
    wait_for(lambda: (folder / "gate" / "waiting.json").exists(), 60, "a run that waits")
    assert not [row for row in running.answered() if row[0] == "bob"]
    approve(federation, running.folder)
    assert running.process.wait(150) == 0, running.said
    assert_same_masks(running.folder, oracle)
    assert (running.folder / "student.safetensors").read_bytes() == (oracle / "student.safetensors").read_bytes()
    status = json.loads(federation.nakt("status", "--json", running.folder).stdout)
    assert (status["state"], [site["chunks"] for site in status["sites"]]) == ("done", [2, 2])
    for name in federation.names:
        done = federation.nakt("site", "receipts", "verify", federation.site(name))
        assert (done.returncode, "all as written" in done.stdout) == (0, True), done.stderr


def test_kills_of_every_part_change_no_mask(parts: tuple[Federation, dict[str, Started]]) -> None:
    """A teacher service in mid-chunk, the SuperLink, the coordinator's app."""
    federation, processes = parts
    study = federation.write_study("stormy", pictures=6, seed=1)
    oracle = oracle_of(federation, "stormy")
    federation.mark("ann").unlink()
    running = federation.run(study)
    approve(federation, running.folder)
    wait_for(federation.mark("ann").exists, 60, "the first chunk")
    processes["ann"].kill("serve")
    processes["ann"].wait_for("teacher service started again")
    running.wait_for_answers(1)
    processes["coordinator"].kill("flower-superlink")
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
    assert sorted(running.answered()) == sorted(
        {(site, "transferal", c) for site in federation.names for c in range(3)}
    )
    assert not processes["coordinator"].find("flwr-serverapp"), "the app outlives `nakt run`"
