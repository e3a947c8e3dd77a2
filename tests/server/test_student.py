"""The student's process without Ray: environment, failure, storage, tickets."""

from pathlib import Path

import pytest

from nakt_fed.errors import RunError
from server import storage
from server.student import _failure, _short_folder, environment, fit_student
from tests.server.jobs import make_job

def test_own_ray_listens_to_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_ADDRESS", "NAKT_RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    env, again = (environment(make_job(tmp_path), tmp_path) for _ in range(2))
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
    env = environment(make_job(tmp_path), tmp_path)
    assert env["NAKT_RAY_ADDRESS"] == "head:6379"
    assert env["RAY_AUTH_TOKEN"] == "theirs"
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in env


def test_ray_client_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the real child process: the reason comes back, the log stays, the scratch folder goes."""
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setattr("server.student._short_folder", lambda: str(tmp_path))
    with pytest.raises(RunError, match=r"^RAY_ADDRESS is ray://head:10001: the coordinator has to run on a node"):
        fit_student(make_job(tmp_path))
    assert (tmp_path / "student.log").exists()
    assert not list(tmp_path.glob("nakt-*"))


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
    copied = []
    monkeypatch.setattr(storage.fs, "copy_files", lambda source, target, **_: (copied.append(Path(source).name), Path(target).touch()))
    for name in ("zzz.csv", "last.pt", "best.pt"):
        (tmp_path / name).touch()
    storage.publish(tmp_path, (tmp_path / "place").as_uri())
    assert len(copied) == 3
    assert copied[-1] == "last.pt"


def test_short_folder_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/a/very/long/temporary/folder/of/a/cluster")
    assert _short_folder() == "/tmp"
