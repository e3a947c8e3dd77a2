"""Submit the hostile app to a coordinator, as somebody would who has its machine, and bring back what it found."""

import json
import shutil
from pathlib import Path
from typing import Any

from server.client import Client
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


def attack(federation: Federation, site: Path) -> dict[str, Any]:
    """What the app at the one site that is connected could get hold of."""
    home, out = federation.root / "attacker", federation.root / "attacker" / "loot.json"
    app = home / "hostile-app"
    shutil.copytree(HERE / "hostile", app / "hostile", ignore=shutil.ignore_patterns("__pycache__"))
    targets = {name: str(site / path) for name, path in AT_SITE.items()}
    parts = {"serverapp": "hostile.server_app:app", "clientapp": "hostile.client_app:app"}
    settings = {"targets": json.dumps(targets), "out": str(out)}
    flower = {"app": {"publisher": "mallory", "components": parts, "config": dict.fromkeys(settings, "")}}
    project = {"name": "hostile", "version": "1.0.0", "description": "", "license": "Apache-2.0"}
    write(app / "pyproject.toml", {"project": project, "tool": {"flwr": flower}})
    client = Client(load_kit(federation.kit), home)
    run = client._call("run", str(app), "nakt", "--run-config", str(run_settings(home, settings)))
    wait_for(out.exists, 120, f"the loot of run {run}")
    [line] = out.read_text().splitlines()
    loot: dict[str, Any] = json.loads(line)
    assert "error" not in loot, loot
    return loot
