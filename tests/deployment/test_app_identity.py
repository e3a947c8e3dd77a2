"""A coordinator that ships another app than a site has approved: not a line of it runs there, and everybody is told why."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from nakt_fed.app_folder import app_folder
from nakt_fed.processes import below
from nakt_fed.site.site_file import load_site
from nakt_fed.study.file import dump_study, load_federated
from server.client import Client
from server.fab import built
from server.flower import bundle, run_settings
from server.kit import load_kit
from tests.deployment.federation import Federation
from tests.deployment.running import lines, wait_for
from tests.watch import command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


def changed_app(home: Path, evidence: Path) -> Path:
    """Ours with one more line, which leaves a file as soon as the app is loaded."""
    home.mkdir()
    app = bundle(home, app_folder())
    module = app / "sites" / "app.py"  # not __init__.py: `flwr run` itself imports packages
    module.write_text(f"open({str(evidence)!r}, 'w').close()\n{module.read_text()}")
    return app


def start(federation: Federation, app: Path) -> tuple[Client, Path]:
    """A run of this app, as `nakt run` would start one of ours; gives its folder."""
    study, run = federation.write_study("tiny", pictures=2), federation.root / "runs" / "tiny-changed"
    run.mkdir(parents=True)
    (run / "study.toml").write_text(dump_study(load_federated(study)))
    settings = {"study": str(run / "study.toml"), "run-dir": str(run), "federation": str(federation.kit)}
    client = Client(load_kit(federation.kit), app.parent)
    client._call("run", str(app), "nakt", "--run-config", str(run_settings(app.parent, settings)))
    return client, run


def stop(client: Client) -> None:
    for each in client._call("ls", "nakt")["runs"]:
        client.stop(int(each["run-id"]))


def refusals(run: Path) -> list[dict[str, Any]]:
    return [event for event in lines(run / "events.jsonl") if event.get("reason") == "app_not_approved"]


def test_a_changed_app_runs_not_a_line_and_the_coordinator_is_told_why(tmp_path: Path) -> None:
    evidence = tmp_path / "it-ran"
    app = changed_app(tmp_path / "changed", evidence)
    with Federation(tmp_path / "f", names=("ann",)) as federation:
        node, site = federation.start_all()["ann"], load_site(federation.site("ann"))
        client, run = start(federation, app)
        wait_for(lambda: refusals(run), 60, "the refusal")
        status = federation.nakt("status", run).stdout
        assert "does not run this app" in status
        assert "`nakt coordinator app`" in " ".join(status.split())
        assert " app      - -: 0 pictures" in federation.nakt("site", "receipts", "show", federation.site("ann")).stdout
        assert "is refused: app_not_approved" in (site.site.folder / "supernode.log").read_text()
        assert not list(site.site.folder.rglob("apps/*")), "it was unpacked"
        assert not [pid for pid in below(node.process.pid) if "flwr-clientapp" in command(pid)]
        stop(client)
    assert not evidence.exists()


def test_the_same_app_runs_once_it_is_approved(tmp_path: Path) -> None:
    """So the test above could fail."""
    evidence = tmp_path / "it-ran"
    app = changed_app(tmp_path / "changed", evidence)
    policy = {"ann": {"apps": [hashlib.sha256(built(app, app.parent)).hexdigest()]}}
    with Federation(tmp_path / "f", names=("ann",), policy=policy) as federation:
        federation.start_all()
        client, _ = start(federation, app)
        wait_for(evidence.exists, 60, "its trace")
        stop(client)
