"""Kills that Flower takes up to a minute to notice: the run goes on by itself, or says how to."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.deployment.compare import assert_same_masks, oracle_of
from tests.deployment.federation import Federation
from tests.deployment.running import Running, Started, answered, lines, wait_for
from tests.tiny import megabytes

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2400)]
KILLS = 20


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("kills")) as federation:
        yield federation


@pytest.fixture(scope="module")
def processes(federation: Federation) -> dict[str, Started]:
    return federation.start_all()


def finish(federation: Federation, running: Running, oracle: Path, seconds: float) -> None:
    """Until the masks are fused: the same bytes as the oracle's, and no answered chunk was asked again."""
    run = running.folder
    running.wait_for_fusion(seconds)
    assert running.end() == 130
    assert_same_masks(run, oracle)
    assert len(set(answered(run))) == len(answered(run))
    assert {site for site, _, _ in answered(run)} == set(federation.names)


def wait_for_some(ledger: Path, more: int, seconds: float = 30) -> None:
    """So many more exchanges, or the end of the seconds: a random point that does not depend on how fast the machine is."""
    end, wanted = time.monotonic() + seconds, len(lines(ledger)) + more
    while len(lines(ledger)) < wanted and time.monotonic() < end:
        time.sleep(0.05)


def test_the_coordinators_app_killed_twenty_times(federation: Federation, processes: dict[str, Started]) -> None:
    """`nakt run` says so and is resumed; an app that Flower had only begun to start is started once more by Flower."""
    tables: dict[str, Any] = {
        "round": {"chunk_mb": megabytes(1)},
        "student": {"epochs": 100},
    }  # not over before the last kill
    study = federation.write_study("twenty", pictures=14, seed=20, **tables)
    oracle = oracle_of(federation, "twenty", **tables)
    dice, coordinator, running = random.Random(7), processes["coordinator"], federation.run(study)
    run, resumed = running.folder, 0
    wait_for(
        lambda: running.events("start"), 60, "the first event"
    )  # who dies before it is noticed by Flower alone, late
    for _ in range(KILLS):
        wait_for(lambda: coordinator.find("flwr-serverapp"), 90, "the app")
        federation.look()
        wait_for_some(run / "ledger.jsonl", dice.randint(0, 6))
        time.sleep(dice.uniform(0, 3))
        coordinator.kill("flwr-serverapp")
        wait_for(lambda now=running: now.process.poll() or coordinator.find("flwr-serverapp"), 120, "the end")  # type: ignore[misc]
        if running.process.poll():
            assert "--resume" in running.said
            running, resumed = federation.resume(run), resumed + 1
    assert resumed > KILLS / 2
    assert answered(run)
    print(f"resumed {resumed} times, {len(answered(run))} answers at the last kill")
    finish(federation, running, oracle, 600)


def test_a_supernode_killed_in_mid_run_comes_back(federation: Federation, processes: dict[str, Started]) -> None:
    study = federation.write_study("node", pictures=16, seed=21)
    oracle = oracle_of(federation, "node")
    running = federation.run(study)
    running.wait_for_answers(4)
    federation.look()
    processes["bob"].kill("guard.py")
    finish(federation, running, oracle, 300)
    assert "SuperNode started again" in processes["bob"].said
    assert any((event["site"], event["state"]) == ("bob", "away") for event in running.events("presence"))


def test_a_clientapp_killed_in_mid_chunk_is_asked_again(federation: Federation, processes: dict[str, Started]) -> None:
    study = federation.write_study("client", pictures=16, seed=22)
    oracle = oracle_of(federation, "client")
    running = federation.run(study)
    running.wait_for_answers(4)
    processes["bob"].kill("flwr-clientapp")
    finish(federation, running, oracle, 300)


def test_a_site_that_is_cut_off_for_a_minute_is_a_line_of_status(
    federation: Federation, processes: dict[str, Started]
) -> None:
    """All its processes stand still, as behind a network that is cut: no error for anybody."""
    study = federation.write_study("cut", pictures=16, seed=23)
    oracle = oracle_of(federation, "cut")
    running = federation.run(study)
    running.wait_for_answers(4)
    processes["bob"].signal_all(signal.SIGSTOP)
    time.sleep(60)
    status = federation.nakt("status", "--once", running.folder).stdout
    processes["bob"].signal_all(signal.SIGCONT)
    finish(federation, running, oracle, 300)
    assert "error" not in running.said.lower()
    assert not running.events("error")
    assert not running.events("warning")
    print(status)


def test_all_of_a_site_killed_and_started_again_by_hand(federation: Federation, processes: dict[str, Started]) -> None:
    study = federation.write_study("reboot", pictures=16, seed=24)
    oracle = oracle_of(federation, "reboot")
    running = federation.run(study)
    running.wait_for_answers(4)
    federation.look()
    os.kill(processes["bob"].process.pid, signal.SIGKILL)
    processes["bob"].process.wait()
    processes["bob"] = federation.start_sites("bob")["bob"]
    finish(federation, running, oracle, 300)


def test_a_run_whose_executor_is_missing_says_so_and_begins_when_it_is_back(
    federation: Federation, processes: dict[str, Started]
) -> None:
    """The SuperExec stands still, so nobody starts the run's process."""
    study = federation.write_study("silent", pictures=4, seed=25)
    oracle = oracle_of(federation, "silent")
    [executor] = processes["coordinator"].find("flower-superexec")
    os.kill(executor, signal.SIGSTOP)
    try:
        running = federation.run(study)
        wait_for(lambda: "the run has not begun for" in running.said, 90, "a word")
        assert "Flower says 'pending'" in running.said
        assert not running.events("start")
    finally:
        os.kill(executor, signal.SIGCONT)
    finish(federation, running, oracle, 120)
