"""Sites that come late, or never come back."""

import os
import signal
from collections.abc import Iterator

import numpy as np
import pytest

from nakt_fed.filtering import read_filter
from tests.deployment.compare import assert_same_masks, oracle_of, stored
from tests.deployment.federation import Federation
from tests.deployment.running import Running, Started, answered
from tests.reference.fusion import integer_mean

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.fixture
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    with Federation(tmp_path_factory.mktemp("absence")) as federation:
        yield federation


def kill_site(federation: Federation, site: Started) -> None:
    federation.look()
    os.kill(site.process.pid, signal.SIGKILL)
    site.process.wait()


def away_for_good(federation: Federation, **round_: object) -> Running:
    """Both have answered something when bob is killed."""
    processes = federation.start_all()
    study = federation.write_study("away", pictures=16, round={"site_timeout": 10.0, **round_})
    running = federation.run(study)
    running.wait_for_answers(4)
    assert "bob" in {site for site, _, _ in running.answered()}
    kill_site(federation, processes["bob"])
    return running


@pytest.mark.parametrize("unfinished", ["drop", "use"])
def test_the_run_goes_on_without_a_site_that_never_comes_back(federation: Federation, unfinished: str) -> None:
    """What it had answered is used or not, as the study says."""
    running = away_for_good(federation, min_sites=1, unfinished=unfinished)
    running.wait_for_fusion(240)
    assert running.end() == 130
    masks = stored(running.folder)
    both = [2 * chunk + row for site, _, chunk in running.answered() if site == "bob" for row in (0, 1)]
    assert 0 < len(both) < 16
    expected = masks["masks/ann"].copy()  # the mean of one
    if unfinished == "use":
        halves = {"ann": 32768, "bob": 32768}
        expected[both] = integer_mean({name: masks[f"masks/{name}"][both] for name in halves}, halves)
    np.testing.assert_array_equal(masks["pseudo"], expected)
    told = [verdict.sites for verdict in read_filter(running.folder / "filter.csv")]
    assert told == [2 if unfinished == "use" and row in both else 1 for row in range(16)]
    [warning] = running.events("warning")
    assert "site bob is set aside" in warning["message"]


def test_without_min_sites_the_run_stops_and_goes_on_when_the_site_is_back(federation: Federation) -> None:
    running = away_for_good(federation)
    oracle = oracle_of(federation, "away")
    assert running.process.wait(240) == 1
    assert "--resume" in running.said
    assert "bob" in running.said
    before = answered(running.folder)
    federation.start_sites("bob")
    again = federation.resume(running.folder)
    again.wait_for_fusion(240)
    assert again.end() == 130
    assert_same_masks(running.folder, oracle)
    assert answered(running.folder)[: len(before)] == before
    assert len(set(answered(running.folder))) == len(answered(running.folder)) == 16


def test_a_site_that_comes_late_gets_all_chunks_and_the_others_are_not_asked_again(federation: Federation) -> None:
    federation.start_coordinator()
    federation.start_sites("ann")
    running = federation.run(federation.write_study("late", pictures=8))
    oracle = oracle_of(federation, "late")
    running.wait_for_answers(4)
    federation.start_sites("bob")
    running.wait_for_fusion(120)
    assert running.end() == 130
    assert_same_masks(running.folder, oracle)
    assert [site for site, _, _ in running.answered()] == ["ann"] * 4 + ["bob"] * 4
