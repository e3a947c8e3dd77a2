"""The student on a real Ray: the oracle's weights, kills at any point, clusters, and nothing left behind."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.errors import RunError
from nakt_fed.networks import build_network
from nakt_fed.processes import below, parents
from nakt_fed.recipe import NetworkSpec
from nakt_fed.student import StudentJob
from server.student import fit_student
from tests.server.jobs import (
    ROOT,
    epochs,
    history,
    in_process,
    last_loss,
    make_job,
    same_weights,
    users_cluster,
    wait_for,
)
from tests.watch import command, started

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

LONG = {"pictures": 240, "epochs": 6}  # about half a second per epoch: long enough to be hit in the middle of one


@pytest.fixture(autouse=True)
def nothing_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process and no file of a training outlives its test."""
    for name in ("RAY_ADDRESS", "NAKT_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    folder = tempfile.mkdtemp(prefix="nt", dir="/tmp")
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield
    assert not started()
    assert not list(Path(folder).glob("nakt-*"))
    shutil.rmtree(folder)


def find(part: str) -> list[int]:
    """Processes that this one has started, directly or not, by their command line."""
    return [pid for pid in started() if part in command(pid)]


def start_network(path: Path) -> Path:
    torch.manual_seed(1)
    spec = NetworkSpec(network="unet", width=2)
    save_checkpoint(path, build_network(spec), spec)
    return path


def test_oracle_and_team_at_once(tmp_path: Path) -> None:
    """Two trainings at the same time: one worker ends with the oracle's very weights, two workers near them.

    Two workers share each batch of 4, so batch normalisation sees other batches: near, not equal.
    """
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = make_job(tmp_path / "one", threads=2), make_job(tmp_path / "two", workers=2)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fit_student, (one, two)))
    oracle = in_process(one, tmp_path / "oracle")
    assert same_weights(one, oracle)
    assert epochs(one) == epochs(two) == [1, 2, 3]
    assert last_loss(two) == pytest.approx(last_loss(oracle), rel=0.2)
    assert sorted(path.name for path in one.out.iterdir()) == sorted(
        [*(path.name for path in oracle.out.iterdir()), "pseudo.zarr"]
    )


def test_fine_tuning_by_way_of_a_url(tmp_path: Path) -> None:
    """From a checkpoint, the unfinished training behind a URL: the oracle's weights, and nothing is left there."""
    init = start_network(tmp_path / "start.safetensors")
    run = tmp_path / "run ü"
    run.mkdir()
    storage = tmp_path / "storage"
    job = make_job(run, "fine_tune", who="student+fine_tune", init=init, storage=storage.as_uri())
    fit_student(job)
    assert same_weights(job, in_process(job, tmp_path / "oracle"))
    assert sorted(path.name for path in job.out.iterdir()) == ["history.csv", "student.json", "student.safetensors"]
    assert list((storage / "run ü").iterdir()) == []


def test_killed_worker_and_killed_training_go_on(tmp_path: Path) -> None:
    """SIGKILL to the worker, then to the child: never more than an epoch is lost; the weights are the oracle's."""
    job = make_job(tmp_path, **LONG)
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(fit_student, job)
        wait_for(lambda: training.done() or 2 in epochs(job))
        [worker] = find("ray::RayTrainWorker")
        assert os.getpriority(os.PRIO_PROCESS, worker) == os.getpriority(os.PRIO_PROCESS, 0)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: training.done() or 4 in epochs(job))
        assert worker not in find("ray::RayTrainWorker")
        [child] = [pid for pid in find("-m server.student") if "processes.py" not in command(pid)]
        os.kill(child, signal.SIGKILL)
        with pytest.raises(RunError, match="was ended by SIGKILL"):
            training.result()
    assert not started()
    fit_student(job)
    told = epochs(job)
    assert told == sorted(told)
    assert (
        len({1, 2, 3, 4, 5, 6} - set(told)) <= 2
    )  # a kill between an epoch's saving and its telling loses the telling only
    assert history(job) == [1, 2, 3, 4, 5, 6]
    assert same_weights(job, in_process(job, tmp_path / "oracle"))


STARTER = """
import sys
from pathlib import Path
from nakt_fed.student import StudentJob
from server.student import fit_student
fit_student(StudentJob.model_validate_json(Path(sys.argv[1]).read_text()))
"""


def starter(job: StudentJob, *before: str, code: str = STARTER) -> list[str]:
    """A program of its own that calls `fit_student`."""
    path = job.events.parent / "job.json"
    path.write_text(job.model_dump_json())
    return [*before, sys.executable, "-c", code, str(path)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_starter(tmp_path: Path, number: signal.Signals) -> None:
    job = make_job(tmp_path, pictures=240, epochs=200)
    with subprocess.Popen(starter(job), cwd=ROOT) as process:
        wait_for(lambda: epochs(job) or process.poll() is not None)
        children = below(process.pid)
        assert len(children) > 8
        process.send_signal(number)
        process.wait(60)
    wait_for(lambda: not children & parents().keys(), 30)


BUSY = """
import ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
class Hog:
    def stay(self): return 1
hogs = [ray.remote(num_cpus=1)(Hog).remote() for _ in range(2)]
assert ray.get([hog.stay.remote() for hog in hogs]) == [1, 1]
"""


def test_beside_a_ray_that_holds_every_cpu(tmp_path: Path) -> None:
    """As in Flower's simulation: called in a process that is connected to a Ray whose CPUs are all taken."""
    job = make_job(tmp_path)
    done = subprocess.run(
        starter(job, code=BUSY + STARTER), cwd=ROOT, capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr
    assert same_weights(job, in_process(job, tmp_path / "oracle"))


def test_team_without_a_network(tmp_path: Path) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    job = make_job(tmp_path, workers=2)
    done = subprocess.run(starter(job, *namespace), cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stderr
    assert epochs(job) == [1, 2, 3]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with users_cluster(monkeypatch):
        yield


@pytest.mark.usefixtures("cluster")
def test_on_the_users_cluster(tmp_path: Path) -> None:
    """The cluster stays as it was, and may be used again."""
    job = make_job(tmp_path)
    fit_student(job)
    assert same_weights(job, in_process(job, tmp_path / "oracle"))
    refused = make_job(tmp_path, "refused", pseudo=str(tmp_path / "nowhere.zarr"))
    with pytest.raises(RunError, match=r"nowhere\.zarr is no zarr group"):
        fit_student(refused)
    assert len(find("ray::RayTrainWorker")) == 0
    assert find("raylet")
