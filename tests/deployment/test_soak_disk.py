"""A disk that runs full in the middle of a run, on real small disks: it stops with a clear word, and goes on when there is space."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deployment.compare import assert_same_masks, oracle_of
from tests.deployment.federation import Federation
from tests.deployment.running import Running, answered
from tests.disk import Disk, small_disk

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(600)]
PICTURES = 16


@pytest.fixture
def later() -> Iterator[ExitStack]:
    """Ends what a test has begun in the opposite order: the processes before the disk that they work on."""
    with ExitStack() as stack:
        yield stack


def stopped(federation: Federation, running: Running, word: str) -> None:
    """It has ended by itself, in plain words, and what it says and keeps names no folder of a site."""
    assert running.process.wait(240) == 1
    assert word in running.said
    assert "--resume" in running.said
    status = federation.nakt("status", "--once", running.folder)
    for text in (running.said, status.stdout, status.stderr):
        assert "Traceback" not in text
    for kept in ("events.jsonl", "ledger.jsonl", "receipts.jsonl"):
        for name in federation.names:
            assert str(federation.root / name) not in (running.folder / kept).read_text()


def finished(federation: Federation, running: Running, oracle: Path) -> None:
    """The oracle's masks, and nothing that was answered before was asked again."""
    before = answered(running.folder)
    again = federation.resume(running.folder)
    again.wait_for_fusion(240)
    assert again.end() == 130
    assert_same_masks(running.folder, oracle)
    assert answered(running.folder)[: len(before)] == before
    assert len(set(answered(running.folder))) == len(answered(running.folder))


def begun(federation: Federation, disk: Disk, name: str, seed: int) -> tuple[Running, Path]:
    """A run whose disk is full after some answers of both sites, and its oracle."""
    oracle = oracle_of_study(federation, name, seed)
    running = federation.run(federation.root / f"{name}.toml")
    running.wait_for_answers(4, 240)
    disk.fill()
    return running, oracle


def runs_full_and_goes_on(federation: Federation, disk: Disk, name: str, seed: int, word: str) -> None:
    running, oracle = begun(federation, disk, name, seed)
    stopped(federation, running, word)
    disk.free()
    finished(federation, running, oracle)


def oracle_of_study(federation: Federation, name: str, seed: int) -> Path:
    federation.write_study(name, pictures=PICTURES, seed=seed)
    return oracle_of(federation, name)


def test_the_run_folders_disk_is_full(tmp_path: Path, later: ExitStack) -> None:
    disk = later.enter_context(small_disk(tmp_path / "f" / "runs", 8))
    federation = later.enter_context(Federation(tmp_path / "f"))
    federation.start_all()
    runs_full_and_goes_on(federation, disk, "full", 50, "the disk is full")


def test_the_coordinators_own_disk_is_full(tmp_path: Path, later: ExitStack) -> None:
    """Where the SuperLink keeps its database, in which the questions and the answers pass through."""
    disk = later.enter_context(small_disk(tmp_path / "disk", 16))
    federation = later.enter_context(Federation(tmp_path / "f"))
    (federation.kit / "state").symlink_to(disk.folder)
    federation.start_all()
    runs_full_and_goes_on(federation, disk, "state", 51, "the disk is full")


def test_a_sites_disk_is_full(tmp_path: Path, later: ExitStack) -> None:
    disk = later.enter_context(small_disk(tmp_path / "disk", 16))
    federation = later.enter_context(Federation(tmp_path / "f"))
    (federation.root / "ann" / "state").symlink_to(disk.folder)
    federation.start_all()
    runs_full_and_goes_on(federation, disk, "site", 52, "ann: disk_full")
    told = federation.nakt("site", "receipts", "verify", federation.site("ann"))
    assert (told.returncode, "all as written" in told.stdout) == (0, True), told.stdout + told.stderr
