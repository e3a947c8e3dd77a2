"""Fixtures that several test modules share; what they build is in `tests/tiny.py`."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # two processes that spin two threads each would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Synthetic pictures of two sites, a transferal organ, an external test set and a few for fine-tuning."""
    from tests.tiny import write_folders

    return write_folders(tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def forget() -> Iterator[Callable[[], None]]:
    """What a new process would not know: the services that are kept per process. Called again after the test."""
    from nakt_fed.simulated_site import _service

    _service.cache_clear()
    yield _service.cache_clear
    _service.cache_clear()


@pytest.fixture
def plain_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds of plotting are left out of runs: the report has tests of its own."""
    replace_report(monkeypatch)


def replace_report(monkeypatch: pytest.MonkeyPatch) -> None:
    stub = ModuleType("nakt_fed.report")
    stub.write_report = lambda run: (run / "report.html").write_text("report")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "nakt_fed.report", stub)


@pytest.fixture(scope="session")
def whole(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a whole study with fine-tuning, carried out in this process and never disturbed."""
    from simulation.oracle import run_in_process
    from tests.tiny import whole_study

    run = tmp_path_factory.mktemp("whole") / "run"
    run.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_report(monkeypatch)
        run_in_process(whole_study(folders), run)
    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium; skipped where the machine has none."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine; install Debian's package chromium")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()
