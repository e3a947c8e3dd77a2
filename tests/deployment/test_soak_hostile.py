"""A hostile app that a hospital has approved by mistake: what it gets there (the site's boundary is the service)."""

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from nakt_fed.exchange import Request
from nakt_fed.flower_environment import free_port, programs
from nakt_fed.processes import guarded
from nakt_fed.site.local_socket import is_answered
from nakt_fed.site.relay import ask_service
from nakt_fed.site.site_file import load_site
from nakt_fed.site.supervise import app_environment, supernode_command
from tests.deployment.attack import AT_SITE, attack, hostile_sha256
from tests.deployment.federation import Federation
from tests.deployment.running import wait_for

pytestmark = [pytest.mark.soak, pytest.mark.timeout(300)]
TEACHER, NODE, GROUP = 60_001, 60_002, 60_003  # numbers that nobody has
REFUSED = {
    "unsigned offer": "not_signed",
    "forged offer": "not_signed",
    "pictures of no offer": "not_signed",
    "masks of no offer": "not_signed",
    "forged student": "not_signed",
    "too large": "too_large",
    "a path for a set": "not_signed",
}


def assert_refused(loot: dict[str, Any], site: Path) -> None:
    """Nothing unsigned was answered, the flood did not stop the service, and every request that was read left a receipt."""
    assert loot["asked"] == REFUSED
    assert not {name for name in loot["environment"] if "SECRET" in name}
    assert ask_service(load_site(site).socket, Request("hello"), 30).meta["reason"] == "not_signed"


def test_under_one_user_it_reads_files_but_the_service_answers_nothing_unsigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why the kit recommends two users: the app runs as whoever starts the SuperNode."""
    monkeypatch.setenv("HOSPITAL_SECRET", "not for the app")
    policy = {"ann": {"apps": [hostile_sha256()]}}
    with Federation(tmp_path / "f", names=("ann",), policy=policy) as federation:
        federation.start_all()
        loot = attack(federation, federation.root / "ann")
        assert_refused(loot, federation.site("ann"))
        assert loot["weights"].endswith("bytes")
        done = federation.nakt("site", "receipts", "show", federation.site("ann"))
        meanwhile = loot["flood"]["hello meanwhile"] == "not_signed"  # else it was busy, and unread
        assert done.stdout.count("not_signed") == 6 + 1 + meanwhile
        assert federation.nakt("site", "receipts", "verify", federation.site("ann")).returncode == 0


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """One that other users may enter, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="nakt-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def become(user: int) -> list[str]:
    return ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups", "--no-new-privs"]


@contextmanager
def as_user(user: int, command: list[str], env: dict[str, str], log: Path) -> Iterator[None]:
    """Under another user, in the group of both, without the rights of ours."""
    with log.open("wb") as sink, guarded([*become(user), *command], env=env, sink=sink, cwd=Path("/")):
        yield


def settle(federation: Federation, run: Path) -> Path:
    """Owners and modes as the kit's README says, the socket in a folder of the group."""
    site = federation.root / "ann"
    raw = tomllib.loads((site / "site.toml").read_text())
    raw["site"]["socket"] = str(run / "teacher.sock")
    (site / "site.toml").write_text(tomli_w.dumps(raw))
    for path in (site, *site.iterdir()):
        os.chown(path, 0, GROUP)
    site.chmod(0o750)
    for folder, mode in ((run, 0o750), (site / "state", 0o700), (site / "private", 0o700)):
        folder.mkdir(exist_ok=True)
        folder.chmod(mode)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, TEACHER, GROUP)
    for name in ("teacher.safetensors", "teacher.json", "site.toml"):
        os.chown(site / name, TEACHER, GROUP)
        (site / name).chmod(0o600)
    os.chown(site / "site.key", NODE, GROUP)
    (federation.root / "flower").mkdir()
    os.chown(federation.root / "flower", NODE, GROUP)
    federation.mark("ann").touch()
    os.chown(federation.mark("ann"), TEACHER, GROUP)
    return site / "site.toml"


def other_users_can_run_this_python() -> bool:
    """Also a program that Flower starts by its name; not where Python lies in somebody's private home."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return False
    env = {**os.environ, **programs(os.environ)}
    words = [*become(NODE), "sh", "-c", "flower-superexec --version"]
    return subprocess.run(words, env=env, cwd="/", capture_output=True).returncode == 0


def test_under_two_users_it_reads_nothing(open_folder: Path) -> None:
    if not other_users_can_run_this_python():
        pytest.skip("needs root, setpriv and a Python that other users can run")
    policy = {"ann": {"apps": [hostile_sha256()]}}
    with Federation(open_folder / "f", names=("ann",), policy=policy) as federation:
        site = settle(federation, open_folder / "run")
        file = load_site(site)
        serve = [sys.executable, "-P", "-c", "from nakt_fed.cli import main; main()", "site", "serve", str(site)]
        node = supernode_command(file)
        node[-1] = str(free_port())
        federation.start_coordinator()
        env = federation.env("ann") | {"HOME": str(open_folder)}
        with as_user(TEACHER, serve, env, federation.root / "serve.log"):
            wait_for(lambda: is_answered(file.socket), 30, "the service")
            shown = app_environment(federation.root / "flower", env)
            with as_user(NODE, node, shown, federation.root / "node.log"):
                loot = attack(federation, site.parent)
            assert {name: loot[name] for name in AT_SITE} == dict.fromkeys(AT_SITE, "PermissionError")
            assert_refused(loot, site)
