"""Tables 2 to 7 of the paper. A table asks for the cells that it shows: asked without answers, it tells which have to be made."""

from collections.abc import Callable, Sequence
from functools import partial

from nakt_fed.metrics import ktc
from nakt_fed.paper import published
from nakt_fed.paper.published import Pair
from nakt_fed.paper.scale import FEW, NETWORKS, STUDENTS, TEACHER
from nakt_fed.paper.sets import TITLES
from nakt_fed.paper.table import Entry, Table, difference
from simulation.cells import Cell, Made

from .presets import Experiments

Get = Callable[[Cell], Made | None]
"""A finished cell, or None."""


ABOUT = "mean ± std over pictures; the paper's numbers in parentheses"


class Maker:
    """Builds tables over several seeds of the same experiments."""

    def __init__(self, seeds: Sequence[Experiments], get: Get) -> None:
        self.seeds, self.get = seeds, get
        self.sets, self.scale = seeds[0].sets, seeds[0].scale
        numbers = ", ".join(str(each.seed) for each in seeds)
        self.conditions = [f"{self.scale.says}; seed {numbers}", f"our data: {self.sets.told()}"]

    def entry(self, cell: Callable[[Experiments], Cell], test: str, paper: Pair | None = None) -> Entry:
        """What a cell scores on a test set, seed by seed."""
        found = {each.seed: self.get(cell(each)) for each in self.seeds}
        scored = {seed: made.result["dice"] for seed, made in found.items() if made and made.result["dice"]}
        return Entry({seed: dice[test] for seed, dice in scored.items() if test in dice}, paper)

    def single(self, name: str, test: str, numbers: dict[str, dict[str, Pair]]) -> Table:
        """Tables 2 and 3: students of one teacher, by transferal set, with (*) and without exclusion."""
        teacher = self.entry(lambda each: each.teacher(), test, published.TEACHER_DICE[test])
        rows: list[tuple[str, list[Entry | str]]] = []
        notes = [f"the teacher, DeepLabv3+: {teacher} on {TITLES[test]}"]
        for transferal in self.sets.transferal():
            plain, kept = (self._students(transferal, exclude, test, numbers) for exclude in (False, True))
            best = max((entry.mean for entry in [*plain, *kept] if entry.mean is not None), default=None)
            told = f"{ktc(best, teacher.mean):.1f}" if best is not None and teacher.mean else "–"
            rows.append((TITLES[transferal], [*plain, f"{told} ({published.KTC[test][transferal]:.1f})"]))
            rows.append((f"{TITLES[transferal]}*", [*kept, ""]))
            notes.append(f"{TITLES[transferal]}: exclusion changes the four students by {difference(kept, plain)}")
        title = f"Table {name[-1]}: Dice (%) on {TITLES[test]} of students trained on pseudo-annotated sets; * with exclusion"
        return Table(name, title, [*STUDENTS.values(), "KTC"], rows, [*self._about(), *notes])

    def _students(self, transferal: str, exclude: bool, test: str, numbers: dict[str, dict[str, Pair]]) -> list[Entry]:
        paper = numbers[f"{transferal}*" if exclude else transferal]
        return [
            self.entry(
                partial(Experiments.student, network=network, transferal=transferal, exclude=exclude),
                test,
                paper[network],
            )
            for network in STUDENTS
        ]

    def tuned(self, name: str, target: str, numbers: dict[str, dict[str, Pair]]) -> Table:
        """Tables 4 and 5: Algorithm 2 against training from scratch on the same few pictures, and the fine-tuned teacher."""
        teacher = self.entry(
            lambda each: each.tuned(TEACHER, target, each.teacher()), target, published.TUNED_TEACHER[target]
        )
        scratch = self._tuned(target, None, False, numbers["scratch"])
        rows, notes = [("Trained from scratch", scratch)], [f"the fine-tuned teacher, DeepLabv3+: {teacher}"]
        for transferal in self.sets.transferal():
            for exclude in (False, True):
                mark = "*" if exclude else ""
                entries = self._tuned(target, transferal, exclude, numbers[f"{transferal}{mark}"])
                rows.append((f"{TITLES[transferal]}{mark}", entries))
                notes.append(
                    f"{TITLES[transferal]}{mark}: fine-tuned against from scratch {difference(entries, scratch)}"
                )
        title = f"Table {name[-1]}: Dice (%) on the rest of {TITLES[target]} after {FEW} annotated pictures of it"
        return Table(name, title, list(STUDENTS.values()), rows, [*self._about(), *notes])

    def _tuned(self, target: str, transferal: str | None, exclude: bool, paper: dict[str, Pair]) -> list[Entry]:
        def cell(each: Experiments, network: str) -> Cell:
            start = each.student(network, transferal, exclude) if transferal else None
            return each.tuned(network, target, start)

        return [self.entry(partial(cell, network=network), target, paper[network]) for network in STUDENTS]

    def several(self) -> Table:
        """Table 6: weak teachers, and the student of all of them."""
        rows, notes = [], []
        for test, paper in published.TABLE_6.items():
            teachers = [
                self.entry(partial(Experiments.teacher, network=network, weak=True), test, paper[network])
                for network in STUDENTS
            ]
            student = self.entry(lambda each: each.several()[2], test, paper[TEACHER])
            ensemble = self.entry(lambda each: each.several()[1], test)
            rows.append((TITLES[test], [*teachers, student]))
            best = max(teachers, key=lambda entry: entry.mean or 0.0)
            notes.append(
                f"{TITLES[test]}: the ensemble has {ensemble}; student − ensemble {difference([student], [ensemble])}"
            )
            notes += [self._beats(seed, student, teachers, test) for seed in student.ours]
            notes.append(f"{TITLES[test]}: student − best teacher {difference([student], [best])}")
        title = "Table 6: Dice (%) of weak teachers and of the DeepLabv3+ student of all of them"
        return Table("table6", title, list(NETWORKS.values()), rows, [*self.conditions, ABOUT, *notes])

    def _beats(self, seed: int, student: Entry, teachers: list[Entry], test: str) -> str:
        beaten = [
            entry for entry in teachers if seed in entry.ours and student.ours[seed]["mean"] > entry.ours[seed]["mean"]
        ]
        return f"{TITLES[test]}, seed {seed}: the student beats {len(beaten)} of {len(teachers)} teachers"

    def counts(self) -> Table:
        """Table 7: pictures before and after exclusion."""
        rows = []
        for transferal in self.sets.transferal():
            pairs = [(self.get(each.single(transferal)), self.get(each.kept(transferal))) for each in self.seeds]
            ours = [(all_.result["pictures"], kept.result["pictures"]) for all_, kept in pairs if all_ and kept]
            paper = published.TABLE_7[transferal]
            words = [", ".join(str(pair[column]) for pair in ours) or "–" for column in (0, 1)]
            share = ", ".join(f"{100 * after / before:.0f}" for before, after in ours) or "–"
            told = [f"{word} ({number})" for word, number in zip(words, paper, strict=True)]
            told.append(f"{share} ({100 * paper[1] / paper[0]:.0f})")
            rows.append((TITLES[transferal], told))
        columns = ["before exclusion", "after exclusion", "kept, %"]
        return Table("table7", "Table 7: pictures before and after exclusion", columns, rows, self._about())

    def _about(self) -> list[str]:
        return [*self.conditions, ABOUT, self.beta]

    @property
    def beta(self) -> str:
        """β, and whence it is."""
        if self.scale.max_entropy is not None:
            return f"β = {self.scale.max_entropy:g} bits"
        found = [self.get(each.kept("baheya")) for each in self.seeds]
        bits = ", ".join(f"{made.result['beta']:.2f}" for made in found if made) or "?"
        return (
            f"β = {bits} bits, by which {TITLES['baheya']} keeps the share that it keeps in the paper (2.5 bits there)"
        )


TABLES: dict[str, Callable[[Maker], Table]] = {
    "table2": lambda maker: maker.single("table2", "breast2", published.TABLE_2),
    "table3": lambda maker: maker.single("table3", "baheya", published.TABLE_3),
    "table4": lambda maker: maker.tuned("table4", "baheya", published.TABLE_4),
    "table5": lambda maker: maker.tuned("table5", "thyroid", published.TABLE_5),
    "table6": Maker.several,
    "table7": Maker.counts,
}


def cells_of(build: Callable[[Maker], object], seeds: Sequence[Experiments]) -> list[Cell]:
    """Which cells a table or figure asks for."""
    asked: list[Cell] = []
    build(Maker(seeds, lambda cell: asked.append(cell)))
    return list({cell.key: cell for cell in asked}.values())
