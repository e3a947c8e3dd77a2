"""The guard before Flower's SuperNode, with Flower's own verification; on a real SuperLink: tests/deployment/test_app_identity.py."""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import flwr.supernode.start_client_internal as supernode
import pytest
from flwr.supercore.fab import Fab
from flwr.supercore.run import Run

from nakt_fed.exchange import Reply, Request
from nakt_fed.site.ahead import work_ahead
from server.fab import built
from server.flower import write
from sites import guard as guard_module
from sites.guard import ENTITY, GIVEN, Guard
from tests.disk import small_disk
from tests.nakt_fed.site.desk import Echo, served

ROOT = Path(__file__).parents[2]


class Approves:
    """A teacher service whose policy has these apps."""

    def __init__(self, *apps: str) -> None:
        self.apps = apps

    def handle(self, request: Request) -> Reply:
        approved = request.kind == "app" and hashlib.sha256(request.blob).hexdigest() in self.apps
        return Reply(approved, {} if approved else {"reason": "app_not_approved", "message": "not in policy.apps"})


@pytest.fixture(scope="module")
def fab(tmp_path_factory: pytest.TempPathFactory) -> Fab:
    folder = tmp_path_factory.mktemp("app")
    parts = {"serverapp": "app:app", "clientapp": "app:app"}
    project = {"name": "small", "version": "1.0.0", "description": "", "license": "Apache-2.0"}
    flower = {"app": {"publisher": "nakt", "components": parts}}
    (folder / "app").mkdir()
    write(folder / "app" / "pyproject.toml", {"project": project, "tool": {"flwr": flower}})
    (folder / "app" / "app.py").write_text("app = None\n")
    content = built(folder / "app", folder)
    return Fab(hashlib.sha256(content).hexdigest(), content, {"valid_license": "x", "fpk_theirs": "{}"})


@pytest.fixture
def run(fab: Fab) -> Run:
    return replace(Run.create_empty(1), fab_id="nakt/small", fab_version="1.0.0", fab_hash=fab.hash_str)


def verified(guard: Guard, fab: Fab) -> bool:
    """What Flower makes of it."""
    return bool(fab.verifications["valid_license"]) and supernode._verify_fab(fab, json.loads(guard.trusted()))


def test_flower_believes_what_the_site_approves_and_nothing_else(tmp_path: Path, fab: Fab, run: Run) -> None:
    guard = Guard(tmp_path / "socket")
    with served(Approves(fab.hash_str), tmp_path / "socket"):
        signed = guard.signed(fab, run)
        assert verified(guard, signed)
        assert "fpk_theirs" not in signed.verifications
        assert not verified(Guard(tmp_path / "socket"), signed), "another process has another key"
        assert not verified(guard, Fab(fab.hash_str, fab.content + b" ", signed.verifications))
        other = Fab(hashlib.sha256(b"x").hexdigest(), b"x", dict(signed.verifications))
        assert ENTITY not in guard.signed(other, run).verifications, "a signature that came with it is dropped"


@pytest.mark.parametrize(
    "changes", [{"fab_id": "nakt/other"}, {"fab_version": "1.0.0/../../x"}, {"fab_hash": "0" * 64}], ids=str
)
def test_a_run_that_names_the_app_otherwise_is_refused(
    tmp_path: Path, fab: Fab, run: Run, changes: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Flower loads the app from a folder that the run names."""
    guard = Guard(tmp_path / "socket")
    with served(Approves(fab.hash_str), tmp_path / "socket"):
        assert not verified(guard, guard.signed(fab, replace(run, **changes)))
    assert f"app {fab.hash_str} is refused" in capsys.readouterr().err


def test_without_a_service_nothing_is_approved(
    tmp_path: Path, fab: Fab, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "PATIENCE", 0.0)
    guard = Guard(tmp_path / "socket")
    assert not verified(guard, guard.signed(fab, run))


def connection(*names: str) -> Any:
    """Flower's function that connects, giving functions of these names."""

    def function(name: str) -> Any:
        def given(*arguments: Any) -> Any:
            return {"get_run": Run.create_empty(1), "get_fab": Fab("", b"", {})}.get(name)

        given.__name__ = name
        return given

    @contextmanager
    def connect() -> Iterator[Any]:
        yield (1, *(function(name) for name in names), "pull", "push", "confirm")

    return connect


def test_every_bundle_goes_through_it(tmp_path: Path) -> None:
    guard = Guard(tmp_path / "socket")
    with served(Echo(), tmp_path / "socket"), guard.wrap(connection(*GIVEN))() as connected:
        assert connected[5:] == ("pull", "push", "confirm")
        _, _, _, get_run, get_fab, *_ = connected
        get_run(1)
        assert get_fab("", 1).verifications == {"valid_license": "not asked for"}


def test_another_flower_is_not_guarded_but_refused(tmp_path: Path) -> None:
    strange = connection("receive", "send", "get_fab", "get_run")
    with pytest.raises(SystemExit, match="cannot be guarded"), Guard(tmp_path).wrap(strange)():
        pass


def test_flower_still_does_what_the_guard_relies_on() -> None:
    """Private to Flower 1.41: who upgrades Flower looks here first. Without it a SuperNode runs nothing, or does not start."""
    given = inspect.getsource(supernode.http_request_response)
    assert "get_run,\n                get_fab," in given
    assert "http_request_response(" in inspect.getsource(supernode._init_connection)
    pulled = inspect.getsource(supernode._pull_and_store_message)
    order = [
        "get_run(run_id)",
        "get_fab(run_info.fab_hash, run_id)",
        "if trusted_entities:",
        "_verify_fab(",
        "store_fab(",
    ]
    places = [pulled.index(words) for words in order]
    assert places == sorted(places), "a bundle is verified before it is kept"


def test_flower_still_does_what_working_ahead_relies_on() -> None:
    """Private to Flower 1.41. Elsewhere a SuperNode works on one message after the other, as Flower does."""
    loop = inspect.getsource(supernode.start_client_internal)
    assert (
        loop.index("run_id = _pull_and_store_message(")
        < loop.index("if run_id is None:")
        < loop.index("_push_messages(")
    )
    pushed = inspect.getsource(supernode._push_messages)
    assert pushed.index("while not (reply_messages :=") < pushed.index(
        "= send(message, object_tree, clientapp_runtime)"
    )
    assert set(re.findall(r"\btime\.(\w+)", inspect.getsource(supernode))) == {"sleep"}


def test_working_ahead_changes_flower_where_it_knows_it_and_nowhere_else() -> None:
    flower = SimpleNamespace(**vars(supernode))
    ahead = work_ahead(flower)
    assert ahead
    assert flower._push_messages is not supernode._push_messages
    assert flower.time.sleep == ahead.sleep
    other = SimpleNamespace(_pull_and_store_message=lambda receive: None, _push_messages=lambda reply: None)
    before = dict(vars(other))
    assert work_ahead(other) is None
    assert vars(other) == before


def test_nothing_that_an_app_left_is_run_as_an_approved_one(tmp_path: Path) -> None:
    """A folder, a file, or a link to a folder elsewhere; what cannot be removed ends the SuperNode."""
    apps, elsewhere = tmp_path / "home" / "apps", tmp_path / "elsewhere"
    apps.parent.mkdir()
    elsewhere.mkdir()
    guard_module.remove_apps(apps.parent)
    for leave in (lambda: (apps / "nakt.small").mkdir(parents=True), apps.touch, lambda: apps.symlink_to(elsewhere)):
        leave()
        guard_module.remove_apps(apps.parent)
        assert not os.path.lexists(apps)
    assert elsewhere.exists(), "a link's target is nobody's to delete"
    with small_disk(apps, 1), pytest.raises(SystemExit, match="cannot be removed"):
        guard_module.remove_apps(apps.parent)


def test_when_a_thread_of_the_supernode_dies_all_of_it_ends() -> None:
    """Flower's heartbeat dies of one internal error of the SuperLink; without it a site would be offline for good."""
    code = "import threading; from sites import guard; threading.excepthook = guard.end_with_a_thread; "
    code += "threading.Thread(target=lambda: 1 / 0).start(); threading.Event().wait(30)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "to be started again" in done.stderr
