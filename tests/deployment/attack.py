"""Submit the hostile app to a coordinator, as somebody would who has its machine, and bring back what it found."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from server.client import Client
from server.fab import built
from server.flower import run_settings, write
from server.kit import load_kit
from tests.deployment.federation import HERE, Federation
from tests.deployment.running import wait_for

AT_SITE = {
    "weights": "teacher.safetensors",
    "site file": "site.toml",
    "private pictures": "private/images",
    "a private mask": "private/masks/0000.png",
    "receipts": "state/receipts.jsonl",
    "errors": "state/service.log",
    "gate": "state/gate",
}


def hostile_app(home: Path) -> Path:
    """The app's folder, below `home`."""
    app = home / "hostile-app"
    shutil.copytree(HERE / "hostile", app / "hostile", ignore=shutil.ignore_patterns("__pycache__"))
    parts = {"serverapp": "hostile.server_app:app", "clientapp": "hostile.client_app:app"}
    flower = {"app": {"publisher": "mallory", "components": parts, "config": {"targets": "", "out": ""}}}
    project = {"name": "hostile", "version": "1.0.0", "description": "", "license": "Apache-2.0"}
    write(app / "pyproject.toml", {"project": project, "tool": {"flwr": flower}})
    return app


def hostile_sha256(home: Path) -> str:
    """Of its bundle: what a site that approved it by mistake would have in its policy."""
    into = home / "built"
    into.mkdir(parents=True)
    return hashlib.sha256(built(hostile_app(into), into)).hexdigest()


def attack(federation: Federation, site: Path) -> dict[str, Any]:
    """What the app at the one site that is connected could get hold of."""
    home, out = federation.root / "attacker", federation.root / "attacker" / "loot.json"
    targets = {name: str(site / path) for name, path in AT_SITE.items()}
    settings = {"targets": json.dumps(targets), "out": str(out)}
    app, client = hostile_app(home), Client(load_kit(federation.kit), home)
    run = client._call("run", str(app), "nakt", "--run-config", str(run_settings(home, settings)))
    wait_for(out.exists, 120, f"the loot of run {run}")
    [line] = out.read_text().splitlines()
    loot: dict[str, Any] = json.loads(line)
    assert "error" not in loot, loot
    return loot
