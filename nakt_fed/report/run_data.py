"""What a run left behind (DESIGN §6), read for the report: JSON, CSV and stores, nothing outside the folder."""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import zarr

from nakt_fed.classes import ONE, class_folder, planes, title
from nakt_fed.errors import RunError
from nakt_fed.filtering import Verdict, read_filter
from nakt_fed.ledger import Ledger
from nakt_fed.report.run_files import Epoch, read_history, read_json
from nakt_fed.resume import resume_command_of
from nakt_fed.store import open_group

READS = 1
"""The version of results.json that this report understands."""


@dataclass(frozen=True)
class FinishedRun:
    """A run that has its results.json. `results` is the content of that file; the rest is read when it is asked for."""

    path: Path
    results: dict[str, Any]
    label: str = ""
    """The class that verdicts and pseudo masks are of."""

    @property
    def by_class(self) -> list["FinishedRun"]:
        """The run as each of its classes sees it; itself where it has one."""
        return [replace(self, label=label) for label in self.results.get("classes", ONE)]

    @property
    def key(self) -> str:
        """Tells the charts of a class from those of the others."""
        return f"c{list(self.results['classes']).index(self.label)}" if self.label else ""

    @property
    def settings(self) -> dict[str, Any]:
        """The resolved study."""
        return dict(self.results["settings"])

    @property
    def sites(self) -> list[str]:
        """Sites that answered, as the study names them."""
        return [site["name"] for site in self.results["sites"]]

    @property
    def size(self) -> int:
        """Side of the square, in pixels, on which everything happened."""
        return int(self.settings["study"]["image_size"])

    @property
    def models(self) -> list[str]:
        """The models of results.json["dice"] in reading order: teachers, ensemble, student, fine-tuned student."""
        order = [f"teacher:{site}" for site in self.sites] + ["ensemble", "student", "student+fine_tune"]
        return [name for name in order if self.results["dice"].get(name)]

    @property
    def tests(self) -> list[str]:
        """Test sets in the order in which the models have them."""
        return list(dict.fromkeys(test for model in self.models for test in self.results["dice"][model]))

    @property
    def held_out(self) -> set[str]:
        """Test sets that are a site's own pictures (simulation only)."""
        several = "classes" in self.results
        sites = [site for site in self.settings["site"] if site["test_share"]]
        return {title(site["name"], label) for site in sites for label in (site["classes"] if several else ONE)}

    @property
    def started(self) -> datetime | None:
        """From the folder's name `<study>-<yyyymmddThhmmssZ>`; None when somebody has renamed it."""
        stamp = re.search(r"-(\d{8}T\d{6})Z$", self.path.resolve().name)
        return datetime.strptime(stamp[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if stamp else None

    @cached_property
    def rows(self) -> dict[str, int]:
        """Row of every transferal picture in pictures.zarr and masks.zarr, by id."""
        pictures = read_json(self.path / "manifest.json")["pictures"]
        return {picture["id"]: row for row, picture in enumerate(pictures)}

    @cached_property
    def verdicts(self) -> list[Verdict]:
        """filter.csv."""
        path = class_folder(self.path, self.label) / "filter.csv"
        return read_filter(path) if path.exists() else []

    @cached_property
    def ledger(self) -> list[dict[str, Any]]:
        """ledger.jsonl."""
        return Ledger(self.path / "ledger.jsonl").lines()

    def history(self, folder: str = ".") -> list[Epoch]:
        """Epochs of `<folder>/history.csv`; empty where nothing was trained."""
        return read_history(self.path / folder / "history.csv")

    def store(self, name: str) -> zarr.Group | None:
        """A zarr group of the run; None when it was removed to save room, which costs the report its pictures only.

        Raises:
            RunError: it is there but cannot be read.
        """
        path = self.path / name
        return open_group(path) if path.is_dir() else None

    @cached_property
    def pseudo(self) -> "zarr.Array[Any] | None":
        """The fused masks (N, H, W); None when they were removed."""
        path = class_folder(self.path, self.label) / "masks.zarr"
        return open_group(path).get("pseudo") if path.is_dir() else None  # type: ignore[return-value]

    def stack(self, name: str) -> str:
        """Of a site or model, in a mask store."""
        [plane] = planes(name, (self.label,))
        return f"masks/{plane}"

    def is_view(self, picture: str) -> bool:
        """A view is called "<original>~<number>"; a file that only looks so has no such original."""
        return picture.rpartition("~")[0] in self.rows


def open_run(path: Path) -> FinishedRun:
    """Open a finished run.

    Raises:
        RunError: `path` is no folder, is not a run, has not come to its end, or is of another version.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path} is not a folder; give the folder of a run, runs/<study>-<time>")
    if not (path / "results.json").exists():
        raise RunError(_why_unfinished(path))
    results = read_json(path / "results.json")
    if results.get("version") != READS:
        raise RunError(
            f"{path / 'results.json'} has version {results.get('version')!r}, expected {READS}; "
            "use the nakt-fed that made the run"
        )
    return FinishedRun(path, results)


def folder_of(picture: str) -> str:
    """The transferal folder: the part of an id before the last slash."""
    return picture.rpartition("/")[0] or "(no folder)"


def _why_unfinished(path: Path) -> str:
    if (path / "study.toml").exists():
        return f"run {path} is not finished: it has no results.json yet; go on with `{resume_command_of(path)}`"
    return f"{path} is not a run: it has neither results.json nor study.toml; give the folder that `nakt run` printed"
