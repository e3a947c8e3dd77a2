"""The student on a real Ray: kills at any point, and nothing left behind."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nakt_fed.errors import RunError
from nakt_fed.processes import below, parents
from server.student import fit_student
from tests.server import trainings
from tests.server.jobs import (
    ROOT,
    epochs,
    history,
    in_process,
    make_job,
    same_weights,
    wait_for,
)
from tests.server.trainings import find, starter
from tests.watch import command, started

nothing_left = trainings.nothing_left  # around every test here

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc"),
]

LONG = {"pictures": 240, "epochs": 6}  # about half a second per epoch: long enough to be hit in the middle of one


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
