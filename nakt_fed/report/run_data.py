"""What a run left behind (DESIGN §6), read for the report: its JSON, its CSV and its two kinds of store, nothing outside the folder."""

import csv
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import zarr

from nakt_fed.errors import RunError

FEW, HIGH = "few_targets", "high_entropy"


@dataclass(frozen=True)
class Verdict:
    """One line of `filter.csv`. `entropy` in bits, None where the rule does not apply (all teachers binary)."""

    id: str
    pixels: int
    entropy: float | None
    kept: bool
    rule: str
    is_view: bool

    @property
    def folder(self) -> str:
        """The transferal folder: the part of the id before the last slash."""
        return self.id.rpartition("/")[0] or "(no folder)"


@dataclass(frozen=True)
class Epoch:
    """One line of a `history.csv`; what was not measured in that epoch is None."""

    epoch: int
    loss: float
    validation_dice: float | None


@dataclass(frozen=True)
class Run:
    """A finished run. `results` is the content of `results.json`; everything else is read when it is asked for."""

    path: Path
    results: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.results["settings"])

    @property
    def sites(self) -> list[str]:
        return [site["name"] for site in self.results["sites"]]

    @property
    def size(self) -> int:
        """Side of the square, in pixels, on which everything happened."""
        return int(self.settings["study"]["image_size"])

    @property
    def models(self) -> list[str]:
        """Names of results.json["dice"] in reading order: teachers as the sites stand, ensemble, student, fine-tuned student."""
        order = [f"teacher:{site}" for site in self.sites] + ["ensemble", "student", "student+fine_tune"]
        return [name for name in order if self.results["dice"].get(name)]

    @property
    def tests(self) -> list[str]:
        """Test sets in the order in which any model has them."""
        return list(dict.fromkeys(test for model in self.models for test in self.results["dice"][model]))

    @property
    def started(self) -> datetime | None:
        """From the folder's name `<study>-<yyyymmddThhmmssZ>`; None when somebody renamed it."""
        stamp = re.search(r"-(\d{8}T\d{6})Z$", self.path.resolve().name)
        return datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if stamp else None

    @cached_property
    def pictures(self) -> list[str]:
        """Ids of the manifest, in the order of the rows of `pictures.zarr` and `masks.zarr`; empty without a manifest."""
        path = self.path / "manifest.json"
        return [picture["id"] for picture in _read_json(path)["pictures"]] if path.exists() else []

    @cached_property
    def verdicts(self) -> list[Verdict]:
        rows = _read_csv(self.path / "filter.csv")
        ids = {row["id"] for row in rows}
        return [_verdict(row, ids) for row in rows]

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """Exchanges with the sites. A killed run may have left half a line, which says nothing and is passed over."""
        path = self.path / "ledger.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def history(self, folder: str = ".") -> list[Epoch]:
        """Epochs of `<folder>/history.csv`; empty where nothing was trained."""
        rows = _read_csv(self.path / folder / "history.csv")
        return [Epoch(int(row["epoch"]), float(row["loss"]), _number(row.get("validation_dice"))) for row in rows]

    def store(self, name: str) -> zarr.Group | None:
        """A zarr group of the run, or None when it was never written or has been removed to save room."""
        path = self.path / name
        return zarr.open_group(path, mode="r") if path.is_dir() else None


def open_run(path: Path) -> Run:
    """Open a finished run.

    Raises:
        RunError: `path` is no folder, is not a run, or the run has not come to its end.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give the folder of a run, runs/<study>-<time>")
    if not (path / "results.json").exists():
        raise RunError(_unfinished(path))
    results = _read_json(path / "results.json")
    if results.get("version") != 1:
        raise RunError(
            f"{path / 'results.json'} has version {results.get('version')!r}, this nakt-fed reads 1; use the release that made the run"
        )
    return Run(path, results)


def _unfinished(path: Path) -> str:
    if (path / "study.toml").exists():
        return f"run {path} has no results.json: it is not finished; go on with `nakt run --resume {path}`, then ask again"
    return f"{path} is not a run: it has neither results.json nor study.toml; give the folder that `nakt run` printed"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError:
        raise RunError(
            f"{path} is not valid JSON; it was damaged after it was written: remove it and use `nakt run --resume {path.parent}`"
        ) from None


def _read_csv(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def _number(text: str | None) -> float | None:
    return float(text) if text else None


def _verdict(row: dict[str, str], ids: set[str]) -> Verdict:
    """A view is called "<original>~<number>"; a file that only looks so has no such original."""
    is_view = row["id"].rpartition("~")[0] in ids
    return Verdict(row["id"], int(row["N"]), _number(row["E"]), row["kept"] == "1", row["rule"], is_view)
