"""The personalised students of a site, for its operator."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nakt_fed.cli.words import many

FOLDER, NUMBERS = "personalised", "numbers.json"
WEIGHTS = "student.safetensors"


def listed(state: Path) -> list[str]:
    """A paragraph for each, the newest last; `state` is the site's own folder."""
    found = sorted((state / FOLDER).glob("*/"), key=lambda each: each.stat().st_mtime)
    return [line for folder in found for line in _lines(folder)]


def _lines(folder: Path) -> Iterator[str]:
    card, numbers = _read((folder / WEIGHTS).with_suffix(".json")), _read(folder / NUMBERS)
    if not card or not numbers:
        yield f"{folder}: not finished; it goes on when the coordinator asks again, or delete the folder"
        return
    made = card["provenance"]
    yield f"{folder / WEIGHTS}"
    yield f"  {card['network']['network']}, fine-tuned for {many(made['epochs'], 'epoch')} on {many(made['n_images'], 'picture')}"
    yield f"  from the coordinator's student with SHA-256 {made['student_sha256']}; a receipt with this hash names its run"
    dice = ", ".join(f"{name} {_percent(numbers[name])}" for name in ("teacher", "student", "personalised"))
    yield f"  told the coordinator: Dice on {many(numbers['n'], 'picture')}: {dice}"


def _percent(score: dict[str, float]) -> str:
    return f"{100 * score['mean']:.1f} ± {100 * score['std']:.1f} %"


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads(path.read_bytes()))
    return {}
