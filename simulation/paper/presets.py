"""The paper's experiments (section 5) as cells. What tables share, a teacher, a mask round, a student, is one cell."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from nakt_fed.data.listing import list_pictures
from nakt_fed.paper.published import TABLE_7
from nakt_fed.paper.scale import STUDENTS, TEACHER, Scale
from nakt_fed.paper.sets import PaperSet, PaperSets, fingerprint
from simulation.cells import Cell

TESTS = ("breast2", "baheya")
VERSION = 1
"""Of what a cell does; a new number makes every cell again."""


@dataclass(frozen=True)
class Experiments:
    """The cells of all experiments on these sets, at this scale, with this seed."""

    sets: PaperSets
    scale: Scale
    seed: int

    def teacher(self, network: str = TEACHER, weak: bool = False) -> Cell:
        """A network trained on Breast Lesion-1; a weak one is stopped after a few epochs (section 5.3)."""
        train = self.sets.get("breast1", annotated=True)
        epochs = self.scale.weak if weak else self.scale.teacher
        what = {**self._learner("teacher", network, epochs), "train": _print(train), **self._tests()[0]}
        where = {"train": _folders(train), **self._tests()[1]}
        return Cell(f"{'weak ' if weak else ''}teacher {network}, seed {self.seed}", what, where=where)

    def masks(self, transferal: str, teachers: dict[str, Cell]) -> Cell:
        """Every teacher's answer to a transferal set, fused, with the verdicts of the filter."""
        pictures = PaperSet(images=self.sets.get(transferal).images)  # its masks, if any, are never read here
        what = {
            **self._about("masks"),
            "teachers": {role: self.scale.network(role) for role in teachers},
            "transferal": _print(pictures),
            **self._tests()[0],
        }
        where = {"transferal": _folders(pictures), **self._tests()[1]}
        return Cell(f"masks of {transferal} by {', '.join(teachers)}, seed {self.seed}", what, teachers, where)

    def single(self, transferal: str) -> Cell:
        """The mask round of section 5.1: one teacher."""
        return self.masks(transferal, {TEACHER: self.teacher()})

    def kept(self, transferal: str) -> Cell:
        """What exclusion leaves of it."""
        limits = {"min_target_pixels": 256, "min_kept": 8, "max_entropy": self.scale.max_entropy}
        needs = {"masks": self.single(transferal)}
        if self.scale.max_entropy is None:
            before, after = TABLE_7["baheya"]
            needs, limits = needs | {"reference": self.single("baheya")}, limits | {"share": after / before}
        return Cell(f"exclusion in {transferal}, seed {self.seed}", {**self._about("kept"), **limits}, needs)

    def student(self, network: str, transferal: str, exclude: bool) -> Cell:
        """A student of section 5.1."""
        pictures = self.kept(transferal) if exclude else self.single(transferal)
        return self._student(network, transferal, exclude, pictures)

    def several(self) -> tuple[dict[str, Cell], Cell, Cell]:
        """Section 5.3: the weak teachers, their masks of Baheya, the student. Without exclusion, which the paper leaves open."""
        teachers = {network: self.teacher(network, weak=True) for network in STUDENTS}
        masks = self.masks("baheya", teachers)
        return teachers, masks, self._student(TEACHER, "baheya", False, masks)

    def _student(self, network: str, transferal: str, exclude: bool, pictures: Cell) -> Cell:
        count = len(list_pictures(self.sets.get(transferal).images))
        epochs = self.scale.student_epochs(transferal, count)
        what = {**self._learner("student", network, epochs), "exclude": exclude, **self._tests()[0]}
        name = f"student {network} of {transferal}{'*' if exclude else ''}, seed {self.seed}"
        return Cell(name, what, {"pictures": pictures}, self._tests()[1])

    def tuned(self, network: str, target: str, start: Cell | None) -> Cell:
        """Section 5.2: fine-tuned from `start`, or trained from scratch, on a few annotated pictures of `target`."""
        pictures = self.sets.get(target, annotated=True)
        what = {**self._learner("tuned", network, self.scale.tuning), "target": target, "pictures": _print(pictures)}
        name = f"{network} on a few of {target}, {f'from {start.name}' if start else f'from scratch, seed {self.seed}'}"
        return Cell(name, what, {"start": start} if start else {}, {"target": _folders(pictures)})

    def _about(self, make: str) -> dict[str, Any]:
        return {"version": VERSION, "make": make, "size": self.scale.image_size, "seed": self.seed}

    def _learner(self, make: str, network: str, epochs: int) -> dict[str, Any]:
        recipe = {**self.scale.recipe, "epochs": epochs}
        return {**self._about(make), "network": self.scale.network(network), "recipe": recipe}

    def _tests(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tests = {name: self.sets.get(name, annotated=True) for name in TESTS}
        return {"tests": {name: _print(found) for name, found in tests.items()}}, {
            "tests": {name: _folders(found) for name, found in tests.items()}
        }


@cache
def _print(found: PaperSet) -> str:
    return fingerprint(found)


def _folders(found: PaperSet) -> dict[str, str]:
    return {"images": str(found.images), **({"masks": str(found.masks)} if found.masks else {})}
