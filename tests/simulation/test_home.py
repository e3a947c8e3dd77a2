import shutil
import socket
import tomllib
from pathlib import Path

import pytest

import nakt_fed
from nakt_fed.errors import RunError
from nakt_fed.flower_environment import free_port
from server.flower import bundle, connect, last_words, run_settings
from simulation import home as home_module
from simulation.home import environment, make_home
from simulation.superlink import superlink
from tests.simulation.test_flower import FAKE_APP


def test_a_home_has_a_short_path_even_where_temporary_files_have_a_long_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(home_module.tempfile, "gettempdir", lambda: str(long))
    home = make_home()
    try:
        assert len(str(home)) <= 40
        assert (home / "lib" / "nakt_fed").resolve() == Path(nakt_fed.__file__).resolve().parent
    finally:
        shutil.rmtree(home)


def test_the_users_cluster_is_for_the_training_only() -> None:
    user = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_TOKEN": "theirs", "FLWR_DATABASE": "x", "HOME": "/h"}
    env = environment(Path("/tmp/nakt-1"), 3, user)
    assert "RAY_ADDRESS" not in env
    assert "FLWR_DATABASE" not in env
    assert env["NAKT_RAY_ADDRESS"] == "10.0.0.1:6379"
    assert env["RAY_AUTH_TOKEN"] == "theirs"
    assert env["HOME"] == "/h"
    assert env["OMP_NUM_THREADS"] == "3"


def test_our_ray_obeys_only_who_knows_a_secret() -> None:
    first, second = (environment(Path("/tmp/nakt-1"), 1, {}) for _ in range(2))
    assert first["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]
    assert "NAKT_RAY_ADDRESS" not in first


def test_local_traffic_never_takes_the_proxy_and_the_users_exceptions_stay() -> None:
    env = environment(Path("/tmp/nakt-1"), 1, {"NO_PROXY": "intra.example", "HTTP_PROXY": "http://proxy:3128"})
    assert env["NO_PROXY"] == "intra.example,127.0.0.1,localhost"
    assert env["no_proxy"] == "127.0.0.1,localhost"


def test_the_bundle_holds_the_apps_and_not_the_library(tmp_path: Path) -> None:
    target = bundle(tmp_path, Path(nakt_fed.__file__).parents[1])
    assert {path.name for path in target.iterdir()} == {"server", "sites", "pyproject.toml"}
    settings = tomllib.loads((target / "pyproject.toml").read_text())
    assert settings["tool"]["flwr"]["app"]["components"] == {
        "serverapp": "server.app:app",
        "clientapp": "sites.app:app",
    }
    assert "fab-include" not in settings["tool"]["flwr"]["app"]
    assert (bundle(tmp_path / "other", FAKE_APP) / "server" / "app.py").exists()


def test_run_settings_keep_every_letter(tmp_path: Path) -> None:
    settings = {"study": "/a b/ü 'x' \"y\"\\z.toml", "run-dir": ""}
    assert tomllib.loads(run_settings(tmp_path, settings).read_text(encoding="utf-8")) == settings


def test_connection(tmp_path: Path) -> None:
    connect(tmp_path, "127.0.0.1:1234")
    expected = {"superlink": {"default": "nakt", "nakt": {"address": "127.0.0.1:1234", "insecure": True}}}
    assert tomllib.loads((tmp_path / "config.toml").read_text()) == expected


def test_no_free_port(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(RunError, match=r"needs a free port on 127.0.0.1 and got none.*Address already in use"):
        free_port()


@pytest.mark.slow
def test_a_port_that_another_program_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once: another port is tried. Always: the error says what Flower said."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = iter([taken, free_port()])
        monkeypatch.setattr("simulation.superlink.free_port", lambda: next(ports))
        with superlink(1, {}) as link:
            assert link.port != taken
            assert link.alive
        assert not link.alive
        assert not link.home.exists()
        monkeypatch.setattr("simulation.superlink.free_port", lambda: taken)
        with pytest.raises(RunError, match=r"(?s)did not start on 127.0.0.1.*address already in use"), superlink(1, {}):
            pass


RED = "\x1b[91mERROR \x1b[0m:   "


def test_last_words_are_the_exceptions_the_cause_first() -> None:
    trace = "Traceback (most recent call last):\n  File x\n"
    crashed = f"{trace}RuntimeError: crashed.\n"
    log = f"INFO: hello\n{trace}ray.exceptions.RayError: too slow\n{crashed}{crashed}"
    assert last_words(log.encode()) == "ray.exceptions.RayError: too slow\nRuntimeError: crashed."


def test_last_words_without_an_exception_are_plain_and_end_before_flowers_advice() -> None:
    log = f"first\n{RED}bad\n{RED}Exit Code: 700\n\nFor more information, visit\n"
    assert last_words(log.encode()) == "first\nERROR :   bad"
    assert last_words(b"") == ""
