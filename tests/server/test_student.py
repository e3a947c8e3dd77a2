"""The student's process without Ray: environment, failure, storage, tickets."""

from pathlib import Path
from typing import Any

import pytest

from nakt_fed.errors import RunError
from server import ray_train, ray_worker, storage
from server.private_ray import _short_folder, _start_ray, environment
from server.student import _failure, fit_student
from tests.server.jobs import make_job


def test_own_ray_listens_to_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "NAKT_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    env, again = (environment(1, tmp_path) for _ in range(2))
    assert env["RAY_AUTH_MODE"] == "token"
    assert len(env["RAY_AUTH_TOKEN"]) == 64
    assert env["RAY_AUTH_TOKEN"] != again["RAY_AUTH_TOKEN"]
    assert env["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert "RAY_ADDRESS" not in env


def test_the_users_cluster_keeps_its_own_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Flower's simulation was given for its own Ray (127.0.0.1 alone) would keep us from a cluster."""
    monkeypatch.setenv("NAKT_RAY_ADDRESS", "head:6379")
    monkeypatch.setenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "theirs")
    env = environment(1, tmp_path)
    assert env["NAKT_RAY_ADDRESS"] == "head:6379"
    assert env["RAY_AUTH_TOKEN"] == "theirs"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in env


@pytest.mark.slow
def test_ray_client_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real child process: the reason comes back, the log stays, the scratch folder goes."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setattr("server.private_ray._short_folder", lambda: str(tmp_path))
    with pytest.raises(RunError, match=r"^RAY_ADDRESS is ray://head:10001: the coordinator has to run on a node"):
        fit_student(make_job(tmp_path))
    assert (tmp_path / "student.log").exists()
    assert not list(tmp_path.glob("nakt-*"))


def test_ray_that_does_not_start_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        calls.append(options)
        if len(calls) < 3 or options["num_cpus"] == 2:
            raise RuntimeError("the node timed out")

    monkeypatch.setattr("ray.init", init)
    _start_ray(num_cpus=1)
    assert len(calls) == 3
    with pytest.raises(RunError, match="Ray did not start on this machine: the node timed out"):
        _start_ray(num_cpus=2)


def test_failure_without_a_reason_shows_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "student.log"
    log.write_text("\n".join(f"line {n}" for n in range(40)))
    text = _failure(137, log)
    assert "SIGKILL" in text
    assert "--resume" in text
    assert text.endswith("line 38\nline 39")
    assert "line 24" not in text


def test_reason_of_several_lines_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "student.log"
    log.write_text("noise\nnakt-fed: first\nsecond\n")
    assert _failure(1, log) == "first\nsecond"


@pytest.mark.parametrize("url", [True, False])
def test_place_round_trip(tmp_path: Path, url: bool) -> None:
    """What was published is fetched, half-written files are not, nothing is left when the place is forgotten."""
    target = tmp_path / "storage" / "run" / "student+fine_tune"
    place = target.as_uri() if url else str(target)
    folder = tmp_path / "scratch" if url else target
    folder.mkdir(parents=True)
    assert storage.fetch(place, folder) == folder
    for name in ("last.pt", "history.csv", "best.part"):
        (folder / name).write_text(name)
    storage.publish(folder, place)
    copy = tmp_path / "copy"
    copy.mkdir()
    found = storage.fetch(place, copy)
    assert (found / "last.pt").read_text() == "last.pt"
    assert (found / "best.part").exists() != url
    storage.forget(place)
    assert not target.exists()
    storage.forget(place)


def test_last_state_is_published_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []

    def copy(source: str, target: str, **_: Any) -> None:
        copied.append(Path(source).name)
        Path(target).touch()

    monkeypatch.setattr(storage.fs, "copy_files", copy)
    for name in ("zzz.csv", "last.pt", "best.pt"):
        (tmp_path / name).touch()
    storage.publish(tmp_path, (tmp_path / "place").as_uri())
    assert len(copied) == 3
    assert copied[-1] == "last.pt"


def test_short_folder_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/a/very/long/temporary/folder/of/a/cluster")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    assert _short_folder() == "/tmp"
    monkeypatch.setenv("RAY_TMPDIR", "/another/very/long/folder/of/a/cluster")
    assert _short_folder() == "/tmp"
    monkeypatch.setenv(
        "RAY_TMPDIR", "/tmp/nakt-a1b2c3d4"
    )  # Flower's home: its guard removes it even when ours is killed
    assert _short_folder() == "/tmp/nakt-a1b2c3d4"


def test_place_tells_runs_and_students_apart(tmp_path: Path) -> None:
    run = tmp_path / "breast 2026"
    run.mkdir()
    job = make_job(run, who="student+fine_tune")
    places = {where: ray_train.place_of(job.model_copy(update={"storage": where})) for where in ("/nfs/a/", "s3://b/a")}
    assert ray_train.place_of(job) == str(run)
    assert places == {
        "/nfs/a/": "/nfs/a/breast 2026/student+fine_tune",
        "s3://b/a": "s3://b/a/breast%202026/student%2Bfine_tune",
    }


def test_worker_that_sees_another_disk_is_refused(tmp_path: Path) -> None:
    ray_worker.leave_ticket("new", str(tmp_path), tmp_path)
    ray_worker.check_ticket("new", tmp_path, "place")
    for folder, ticket in ((tmp_path, "newer"), (tmp_path / "elsewhere", "new")):
        with pytest.raises(RunError, match=r"does not see place as the coordinator does; set student\.storage"):
            ray_worker.check_ticket(ticket, folder, "place")


def test_refusal_of_an_earlier_call_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ray_worker.REFUSAL).write_text("old the loss is nan")
    assert ray_worker.refusal("old", tmp_path) == "the loss is nan"
    assert ray_worker.refusal("new", tmp_path) == ""


def test_need_that_no_node_meets_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers with a GPU each on one machine with one; a worker of 8 threads on nodes of 4 CPUs."""
    nodes = [{"Alive": True, "Resources": {"CPU": 4, "GPU": 1}}, {"Alive": False, "Resources": {"CPU": 64}}]
    monkeypatch.setattr(ray_train.ray, "nodes", lambda: nodes)
    ray_train.refuse_impossible({"CPU": 4.0, "GPU": 1.0}, 1)
    with pytest.raises(RunError, match=r"needs 2 GPU on one machine, the largest that Ray knows has 1; lower student"):
        ray_train.refuse_impossible({"CPU": 1.0, "GPU": 1.0}, 2)
    with pytest.raises(RunError, match=r"needs 8 CPU .* has 4; lower resources\.student_threads"):
        ray_train.refuse_impossible({"CPU": 8.0}, 1)


def test_cause_is_the_exception_itself() -> None:
    failures = {0: ValueError("Traceback:\n  line 3\nKeyError: 'x'")}
    assert ray_train._cause(ray_train.WorkerGroupError("many words", failures)) == "KeyError: 'x'"
