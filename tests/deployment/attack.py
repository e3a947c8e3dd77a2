"""Submit the hostile app to a coordinator, as somebody would who has its machine, and bring back what it found."""

import json
from pathlib import Path
from typing import Any

from simulation.loopback import bundle_sha256
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


def hostile_sha256() -> str:
    """Of its bundle: what a site that approved it by mistake would have in its policy."""
    return bundle_sha256(HERE / "hostile", {"targets": "", "out": ""})


def attack(federation: Federation, site: Path) -> dict[str, Any]:
    """What the app at the one site that is connected could get hold of."""
    out = federation.root / "loot.json"
    targets = {name: str(site / path) for name, path in AT_SITE.items()}
    run = federation.submit(HERE / "hostile", {"targets": json.dumps(targets), "out": str(out)})
    wait_for(out.exists, 120, f"the loot of run {run}")
    [line] = out.read_text().splitlines()
    loot: dict[str, Any] = json.loads(line)
    assert "error" not in loot, loot
    return loot
