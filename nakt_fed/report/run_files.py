"""Two kinds of files that a run left behind, read: JSON and the history of a training."""

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nakt_fed.errors import RunError
from nakt_fed.resume import resume_command_of


@dataclass(frozen=True)
class Epoch:
    """One line of a `history.csv`; `validation_dice` is None where nothing was held out."""

    epoch: int
    loss: float
    validation_dice: float | None


def read_history(path: Path) -> list[Epoch]:
    """The epochs of a `history.csv`; none where it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return [_epoch(row) for row in csv.DictReader(lines)]


def _epoch(row: dict[str, str]) -> Epoch:
    score = row["validation_dice"]
    return Epoch(int(row["epoch"]), float(row["loss"]), float(score) if score else None)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run. Raises RunError: it is missing or was changed."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise RunError(
            f"{path} is missing, so the pictures of the run are not known by name; copy the whole run folder"
        ) from None
    except ValueError:
        raise RunError(
            f"{path} is not valid JSON, so it was changed after the run; "
            f"remove it and use `{resume_command_of(path.parent)}`"
        ) from None
