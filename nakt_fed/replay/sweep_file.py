"""The sweep file: which weightings, filter thresholds, students and seeds are tried on a finished run."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, ValidationError, model_validator

from nakt_fed.errors import StudyError
from nakt_fed.study import Study
from nakt_fed.study.learners import StudentSpec
from nakt_fed.study.tables import Entropy, FilterSpec, FusionSpec, Pixels, Seed
from nakt_fed.toml_file import explain, parse, read_toml
from nakt_fed.toml_types import Name, Part

Kind = Literal["plain", "blend", "box"]


class Variant(Part):
    """A student: what differs from the study's [student] in `settings`, and which of the answered pictures it learns from.

    Written as "none" (only the pseudo masks are measured), "study", or a table with a name; all keys but `views`, `kinds` and
    `originals` are those of [student].
    """

    name: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    views: int = Field(default=999, ge=0)
    kinds: Annotated[tuple[Kind, ...], Strict(False)] = ("plain", "blend", "box")
    originals: bool = True

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        if isinstance(raw, str):
            if raw not in ("none", "study"):
                raise ValueError(
                    f'{raw!r} is no student; write "none", "study", or a table such as {{ name = "short", epochs = 5 }}'
                )
            return {"name": raw}
        if isinstance(raw, dict) and "settings" not in raw:
            own = {key: value for key, value in raw.items() if key in cls.model_fields}
            return {**own, "settings": {key: value for key, value in raw.items() if key not in cls.model_fields}}
        return raw

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.name == "none" and self.settings:
            raise ValueError('"none" is no student, so it takes no settings; give the student another name')
        return self

    def spec(self, study: Study) -> StudentSpec:
        """The study's student with this variant's settings. Raises StudyError: an unknown key or an impossible value."""
        try:
            return StudentSpec.model_validate({**study.student.model_dump(), **self.settings})
        except ValidationError as error:
            raise StudyError(
                f"student {self.name!r} of the sweep cannot be used:\n{explain(StudentSpec, error)}"
            ) from None


class Weighted(FusionSpec):
    """[fusion] of a study, or only the name of a weighting."""

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        return {"weighting": raw} if isinstance(raw, str) else raw

    @property
    def label(self) -> str:
        """The name with its options."""
        told = {**self.options, **self.weights}
        return self.weighting + (f"({', '.join(f'{key}={value}' for key, value in told.items())})" if told else "")


class Sweep(Part):
    """Every combination is a cell. What is not given is as in the run's study; pictures of `annotated` are measured nowhere."""

    weighting: list[Weighted] = Field(min_length=1)
    max_entropy: list[Entropy] = Field(default_factory=list)
    min_target_pixels: list[Pixels] = Field(default_factory=list)
    student: list[Variant] = Field(default_factory=lambda: [Variant(name="none")], min_length=1)
    seeds: list[Seed] = Field(default_factory=list)
    annotated: Name | None = None
    equal_steps: bool = False
    threads: int = Field(default=1, ge=1)


@dataclass(frozen=True)
class Setting:
    """One cell: a row of the results."""

    name: str
    fusion: FusionSpec
    filter: FilterSpec
    student: Variant
    seed: int

    @property
    def told(self) -> dict[str, Any]:
        """For the row."""
        return {
            "weighting": Weighted.model_validate(self.fusion.model_dump()).label,
            "max_entropy": self.filter.max_entropy if self.filter.enabled else None,
            "min_target_pixels": self.filter.min_target_pixels if self.filter.enabled else None,
            "student": self.student.name,
        }


def load_sweep(path: Path) -> Sweep:
    """Raises StudyError: the file is missing, not TOML, has an unknown key or an impossible value."""
    path, raw = read_toml(path, "sweep file")
    return parse(Sweep, raw, path.parent, str(path))


def settings_of(sweep: Sweep, study: Study) -> Iterator[Setting]:
    """The cells, in the order of the file; without a student there is nothing to draw, so one seed is enough."""
    filters = [
        study.filter.model_copy(update={"max_entropy": beta, "min_target_pixels": alpha, **_enabled(sweep)})
        for beta in sweep.max_entropy or [study.filter.max_entropy]
        for alpha in sweep.min_target_pixels or [study.filter.min_target_pixels]
    ]
    for weighted, spec, student in itertools.product(sweep.weighting, filters, sweep.student):
        fusion = FusionSpec.model_validate(
            {**weighted.model_dump(), "annotated": sweep.annotated or weighted.annotated}
        )
        name = " ".join(_words(weighted, spec, student, sweep))
        for seed in [study.study.seed] if student.name == "none" else sweep.seeds or [study.study.seed]:
            yield Setting(name, fusion, spec, student, seed)


def refuse_twins(settings: Iterable[Setting]) -> None:
    """Raise StudyError where two cells would have one name and seed: nobody could tell their rows apart."""
    seen: set[tuple[str, int]] = set()
    for setting in settings:
        if (setting.name, setting.seed) in seen:
            raise StudyError(
                f"the sweep has cell {setting.name!r} with seed {setting.seed} twice; list each weighting, threshold and seed once, "
                "and give each student a name of its own"
            )
        seen.add((setting.name, setting.seed))


def _enabled(sweep: Sweep) -> dict[str, bool]:
    return {"enabled": True} if sweep.max_entropy or sweep.min_target_pixels else {}


def _words(weighted: Weighted, spec: FilterSpec, student: Variant, sweep: Sweep) -> Iterator[str]:
    """What tells this cell from the others."""
    yield weighted.label
    if len(sweep.max_entropy) > 1:
        yield f"β={spec.max_entropy:g}"
    if len(sweep.min_target_pixels) > 1:
        yield f"α={spec.min_target_pixels}"
    if len(sweep.student) > 1:
        yield student.name
