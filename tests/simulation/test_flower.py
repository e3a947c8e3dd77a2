import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import nakt_fed
from nakt_fed.errors import RunError
from nakt_fed.study import Study
from nakt_fed.study.file import parse_study
from simulation.flower import federation, run_app
from tests.watch import family, survivors

FAKE_APP = Path(__file__).parent / "fake_app"
TWO_NODES = {
    "num-supernodes": 2,
    "client-resources-num-cpus": 1,
    "client-resources-num-gpus": 0.0,
    "init-args-num-cpus": 2,
}
LAUNCH = """
import json, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from simulation.flower import run_app
signal.signal(signal.SIGINT, signal.default_int_handler)
app, run, mode, nodes = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4], json.loads(sys.argv[5])
run_app(app, run, {"run-dir": str(run), "mode": mode}, nodes, 1, False, lambda event: print(event["kind"], flush=True))
print("done", flush=True)
"""


def start(run: Path, mode: str) -> "subprocess.Popen[str]":
    """run_app in a process of its own, as `nakt` is one."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", LAUNCH, root, str(FAKE_APP), str(run), mode, json.dumps(TWO_NODES)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def collect(run: Path, mode: str = "ok", verbose: bool = False) -> tuple[list[dict[str, Any]], dict[int, int]]:
    """Run the fake app; its events and every process that was there when they came."""
    events: list[dict[str, Any]] = []
    seen: dict[int, int] = {}

    def on_event(event: dict[str, Any]) -> None:
        events.append(event)
        seen.update(family(os.getpid()))

    run_app(FAKE_APP, run, {"run-dir": str(run), "mode": mode}, TWO_NODES, 1, verbose, on_event)
    return events, seen


def study(sites: int, **resources: int) -> Study:
    part = {"images": "x", "masks": "x", "teacher": {"network": "unet"}}
    raw = {
        "study": {"name": "s", "image_size": 32},
        "site": [{"name": f"s{i}", **part} for i in range(sites)],
        "transferal": {"images": ["x"]},
        "student": {"network": "unet"},
        "resources": resources,
    }
    return parse_study(raw, Path("/"))


@pytest.mark.parametrize(("at_once", "actors"), [(2, 2), (8, 3)])
def test_as_many_actors_as_sites_work_at_once(at_once: int, actors: int) -> None:
    settings = federation(study(3, site_threads=4, sites_at_once=at_once))
    assert settings["num-supernodes"] == 3
    assert settings["client-resources-num-cpus"] == 4
    assert settings["init-args-num-cpus"] == 4 * actors  # Flower fills Ray's CPUs with actors


@pytest.mark.slow
def test_two_runs_at_once_in_a_hostile_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Own code, own folders, own Ray; a dead proxy, a cluster of the user's and a used FLWR_HOME do not matter."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("RAY_ADDRESS", "192.0.2.1:6379")
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "users-own"))
    runs = [tmp_path / "lauf ä 'eins'", tmp_path / "zwei"]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(collect, runs))
    homes = set()
    for events, processes in results:
        assert [event["kind"] for event in events] == ["where", "where"]
        assert {event["node"] for event in events} == {"0", "1"}
        for event in events:
            home = Path(event["FLWR_HOME"])
            homes.add(home)
            assert Path(event["app"]).is_relative_to(home / "apps")
            assert Path(event["nakt_fed"]) == Path(nakt_fed.__file__).resolve()
            assert event["cwd"] == str(home / "work")
            assert (event["OMP_NUM_THREADS"], event["RAY_ADDRESS"]) == ("1", "")
            assert event["NAKT_RAY_ADDRESS"] == "192.0.2.1:6379"
        assert len(processes) > 10
        assert survivors(processes) == []
    assert len(homes) == 2
    assert not any(home.exists() for home in homes)
    assert not (tmp_path / "users-own").exists()


@pytest.mark.slow
def test_a_failed_run_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^it was meant to fail$"):
        collect(tmp_path, "fail")
    assert survivors(family(os.getpid())) == []
    assert "it was meant to fail" in (tmp_path / "flower.log").read_text()


@pytest.mark.slow
def test_a_crash_without_a_word_shows_the_end_of_flowers_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RunError, match=r"(?s)finished:failed.*flower.log says:.*ValueError: nobody expected this"):
        collect(tmp_path, "crash", verbose=True)
    assert "Starting Flower Simulation" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_outlives_us(tmp_path: Path, number: signal.Signals) -> None:
    with start(tmp_path, "hang") as launcher:
        assert launcher.stdout is not None
        assert [launcher.stdout.readline().strip() for _ in range(2)] == ["where", "where"]
        processes = family(launcher.pid)
        homes = {Path(f"/proc/{pid}/cwd").readlink().parent for pid in processes}
        launcher.send_signal(number)
        launcher.wait(30)
    assert len(processes) > 10
    assert survivors(processes, patience=10) == []
    assert not any(home.exists() for home in homes if home.name.startswith("nakt-"))


@pytest.mark.slow
def test_interrupted_while_starting(tmp_path: Path) -> None:
    launcher = start(tmp_path, "hang")
    deadline = time.monotonic() + 20
    while len(processes := family(launcher.pid)) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    launcher.send_signal(signal.SIGINT)
    assert "KeyboardInterrupt" in launcher.communicate(timeout=30)[0]
    assert processes
    assert survivors(processes, patience=5) == []


def _can_unshare() -> bool:
    if not shutil.which("unshare") or not shutil.which("ip"):
        return False
    return subprocess.run(["unshare", "-rn", "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not _can_unshare(), reason="needs unshare with user namespaces")
def test_without_any_network(tmp_path: Path) -> None:
    root = str(Path(__file__).parents[2])
    inner = [sys.executable, "-c", LAUNCH, root, str(FAKE_APP), str(tmp_path), "ok", json.dumps(TWO_NODES)]
    command = ["unshare", "-rn", "sh", "-c", 'ip link set lo up; exec "$@"', "sh", *inner]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["where", "where", "done"], done.stderr
