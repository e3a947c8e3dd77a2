"""The student on a real Ray: the oracle's weights, and clusters. Kills: test_student_kills.py."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.errors import RunError
from nakt_fed.networks import build_network
from nakt_fed.recipe import NetworkSpec
from server.student import fit_student
from tests.server import trainings
from tests.server.jobs import (
    ROOT,
    epochs,
    in_process,
    last_loss,
    make_job,
    same_weights,
    users_cluster,
)
from tests.server.trainings import STARTER, find, starter

nothing_left = trainings.nothing_left  # around every test here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]


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
