"""What a run has stored, opened to be combined again: nothing outside its folder is looked at."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.answered import Combiners, counted_sites
from nakt_fed.classes import ONE
from nakt_fed.errors import RunError
from nakt_fed.manifest import Manifest
from nakt_fed.metrics import dice
from nakt_fed.resume import demand_run, resume_command_of
from nakt_fed.shared_set import SharedSet
from nakt_fed.study.file import load_study
from nakt_fed.study.tables import FusionSpec

Masks = NDArray[np.uint8]
Combine = Callable[[Mapping[str, Masks]], Masks]
PerImage = dict[str, float]
"""{"<test set>/<picture>": Dice as a fraction}."""


class StoredRun:
    """A run folder whose sites have answered.

    Args:
        label: of a run whose sites know different classes, the one that is looked at: as if the study had no other.

    Raises:
        RunError: it is no run, or not all sites have answered yet, or its sites know no such class.
    """

    def __init__(self, folder: Path, label: str = "") -> None:
        self.folder, self.label = folder.resolve(), label
        demand_run(self.folder)
        whole = load_study(self.folder / "study.toml")
        if label not in whole.classes:
            known = (
                "one class: leave it out" if whole.classes == ONE else f"{', '.join(whole.classes)}: name one of them"
            )
            raise RunError(
                f"{folder}: the sites know {known} (--class, which `nakt fuse`, `sweep` and `contributions` have)"
            )
        self.study = whole.of_class(label)
        if not (self.folder / "manifest.json").exists() or "round" not in self.transferal.masks.group.attrs:
            raise RunError(
                f"the sites have not answered everything in {folder}; go on with `{resume_command_of(folder)}`"
            )
        told: Any = self.transferal.masks.group.attrs["round"]
        self.cards: dict[str, dict[str, Any]] = told["cards"]
        names, aside, away = self.study.site_names, told["set_aside"], told.get("away", [])
        self.active = [name for name in names if name not in aside]
        unfinished = self.study.round.unfinished
        self.counted = counted_sites(
            self.transferal.masks, names, aside, away if unfinished == "use" else [], self.cards
        )

    @cached_property
    def transferal(self) -> SharedSet:
        """D, with the sites' answers."""
        return self._set("transferal", self.folder)

    @property
    def taught(self) -> int:
        """How many pictures the run's own student learned from: those that any of its classes kept. Raises RunError: it has none."""
        if not (self.folder / "results.json").exists():
            raise RunError(f"{self.folder} has no results.json yet; go on with `{resume_command_of(self.folder)}`")
        return int(json.loads((self.folder / "results.json").read_text(encoding="utf-8"))["transferal"]["kept"])

    @cached_property
    def tests(self) -> dict[str, SharedSet]:
        """The test sets, by name: annotated pictures that the sites have answered too."""
        places = {name: self.folder / "tests" / name for name in self.study.test_names}
        return {name: self._set(f"test-{name}", place) for name, place in places.items()}

    def _set(self, name: str, place: Path) -> SharedSet:
        manifest = Manifest.from_json((place / "manifest.json").read_bytes())
        return SharedSet(name, manifest, place, self.study.chunk(len(manifest)), label=self.label)

    def combiners(self, fusion: FusionSpec) -> Combiners:
        """Another way of combining the same answers."""
        return Combiners(fusion, self.cards, self.transferal.masks, self.tests, self.study.study.seed)

    def measured(
        self,
        answer: Callable[[SharedSet, int], Masks],
        leave_out: str | None,
        truth_of: Callable[[SharedSet], Masks] = lambda shared: shared.truth,
    ) -> PerImage:
        """Dice at one half on every test set but `leave_out`.

        Args:
            answer: a test set and the number of a chunk -> masks (n, H, W) uint8.
            truth_of: a test set -> all its true masks, or what stands for them.
        """
        found: PerImage = {}
        for name, shared in self.tests.items():
            if name == leave_out:
                continue
            truth, ids = truth_of(shared) > 127, shared.manifest.ids
            for number, rows in enumerate(shared.masks.chunks):
                values = dice(answer(shared, number) > 127, truth[rows.start : rows.stop])
                found |= {f"{name}/{ids[row]}": round(float(v), 6) for row, v in zip(rows, values, strict=True)}
        return found
