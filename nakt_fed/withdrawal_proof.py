"""withdrawals/<site>.json: what was deleted when a site withdrew, and what the run became without it."""

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nakt_fed.errors import RunError
from nakt_fed.store import open_group
from nakt_fed.whole_file import write_json

VERSION = 1
FOLDER = "withdrawals"
RESULTS = (
    "study.toml",
    "filter.csv",
    "student.safetensors",
    "fine_tune/student.safetensors",
    "results.json",
)
"""What a run leaves behind that depends on who took part; "pseudo", the fused masks, besides."""


def proof_path(run: Path, site: str) -> Path:
    """Where the proof of a site's withdrawal stands."""
    return run / FOLDER / f"{site}.json"


def begin_proof(run: Path, site: str, doomed: Iterable[Path]) -> dict[str, Any]:
    """Hash what will be deleted and what the run is now, before anything is touched; an earlier, cut start is added to.

    Raises:
        RunError: the proof that is there cannot be read.
    """
    known = _read(proof_path(run, site)) if proof_path(run, site).exists() else {}
    deleted = {str(path.relative_to(run)): file_sha256(path) for path in files_below(doomed)}
    proof = {
        "version": VERSION,
        "run": run.name,
        "site": site,
        "time": known.get("time") or datetime.now(UTC).isoformat(timespec="seconds"),
        "deleted": {**known.get("deleted", {}), **deleted},
        "before": known.get("before") or hashes(run),
        "search": None,
        "after": None,
    }
    write_proof(run, proof)
    return proof


def is_unfinished(run: Path, site: str) -> bool:
    """Whether a withdrawal of this site was begun and cut before everything was deleted and looked for."""
    path = proof_path(run, site)
    return path.exists() and _read(path)["search"] is None


def search(run: Path, proof: dict[str, Any]) -> dict[str, Any]:
    """Look through every file that is left for the content of a deleted file with the site's masks or held-out pictures."""
    stacks = f"masks.zarr/masks/{proof['site']}"
    own = (f"{stacks}/c/", f"{stacks}~", f"tests/{proof['site']}/pictures.zarr/")
    masks = {sha for path, sha in proof["deleted"].items() if "/c/" in path and any(part in path for part in own)}
    files = files_below([run])
    return {"files": len(files), "found": [str(p.relative_to(run)) for p in files if file_sha256(p) in masks]}


def complete_proofs(run: Path) -> None:
    """Called when a run has its results: what they are now, in every proof that does not say so yet."""
    for path in sorted((run / FOLDER).glob("*.json")):
        proof = _read(path)
        if proof["search"] is not None and proof["after"] is None:
            write_proof(run, {**proof, "after": hashes(run)})


def write_proof(run: Path, proof: dict[str, Any]) -> Path:
    """Whole or not at all."""
    path = proof_path(run, proof["site"])
    path.parent.mkdir(exist_ok=True)
    return write_json(path, proof)


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of each of `RESULTS` that is there, and of the fused masks."""
    classes = sorted((run / "classes").glob("*/filter.csv"))
    files = [run / name for name in RESULTS if (run / name).is_file()] + classes
    found = {str(path.relative_to(run)): file_sha256(path) for path in files}
    for place in (run, *(path.parent for path in classes)):
        if not (place / "masks.zarr" / "pseudo").is_dir():
            continue
        pseudo: Any = open_group(place / "masks.zarr")["pseudo"]
        digest = hashlib.sha256()
        for start in range(0, pseudo.shape[0], pseudo.chunks[0]):
            digest.update(pseudo[start : start + pseudo.chunks[0]].tobytes())
        found[str((place / "pseudo").relative_to(run))] = digest.hexdigest()
    return found


def files_below(paths: Iterable[Path]) -> list[Path]:
    """Every file at or below these paths, in order."""
    return sorted(p for path in paths for p in ([path] if path.is_file() else path.rglob("*")) if p.is_file())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise RunError(f"{path} is not valid JSON, so it was changed; move it away and try again") from None
