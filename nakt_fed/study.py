"""The study file: one TOML that describes a whole run (DESIGN §5), validated by pydantic, refused with the key and the remedy."""

import math
import os
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nakt_fed.classes import (
    ONE,
    names_in,
    refuse_label_sets,
    refuse_masks,
    refuse_outputs,
    union,
    with_outputs,
    written,
)
from nakt_fed.errors import StudyError
from nakt_fed.recipe import Name, NetworkSpec, Part, Recipe, Share
from nakt_fed.weightings import refuse_unknown

LEAST_CHUNKS, LEAST_CHUNK, MOST_CHUNK = 8, 16, 4096  # chunks in a set; pictures in a chunk
MaskFolders = Path | dict[Name, Path]
"""A folder of masks, or where there are several classes one per class."""


class TeacherSpec(NetworkSpec, Recipe):
    """A site's network: trained on the site's private pictures, or loaded from a checkpoint."""

    checkpoint: Path | None = None
    binary: bool = False


class SiteSpec(Part):
    """One hospital. `test_share` of its pictures is held out and used as a test set named after the site (simulation only).

    Without images, which only a teacher from a checkpoint allows, nothing is held out and no overlap is counted.
    `classes` are what the teacher knows, when sites know different ones; a table of mask folders names them too.
    """

    name: Name
    images: Path | None = None
    masks: MaskFolders | None = None
    classes: tuple[Name, ...] = ()
    test_share: Share = 0.0
    teacher: TeacherSpec

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        raw = written(raw)
        return with_outputs(raw, "teacher", names_in(raw))

    @model_validator(mode="after")
    def _can_train(self) -> Self:
        if self.images is None and (self.masks or self.teacher.checkpoint is None):
            raise ValueError(f"site {self.name!r} has no images; give the folder of its pictures")
        if self.masks is None and self.teacher.checkpoint is None:
            raise ValueError(
                f"site {self.name!r} has neither masks to train its teacher with nor teacher.checkpoint; give one of them"
            )
        if self.masks is None and self.test_share:
            raise ValueError(
                f"site {self.name!r} has a test_share but no masks to test against; give masks, or remove test_share"
            )
        refuse_masks(f"site {self.name!r}", self.masks, self.classes)
        refuse_outputs(f"site {self.name!r} knows", "teacher", self.teacher.classes, self.classes)
        return self


class TransferalSpec(Part):
    """The pictures that are nobody's secret; `views` derived pictures per picture are answered by the teachers too."""

    images: list[Path] = Field(min_length=1)
    views: int = Field(default=20, ge=0, le=999)
    mix: float = Field(default=0.7, ge=0, le=1)
    duplicates: Literal["refuse", "drop"] = "refuse"


class FusionSpec(Part):
    """How the sites' answers are combined: a scheme by name or a user's own `module:function`, and its options.

    `weights` are given for `fixed` only; `annotated` names the test set that `learned` may look at.
    """

    weighting: str = "uniform"
    weights: dict[str, float] = Field(default_factory=dict)
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    annotated: Name | None = None

    @field_validator("weighting")
    @classmethod
    def _known(cls, name: str) -> str:
        refuse_unknown(name)
        return name


class FilterSpec(Part):
    """α (at 384×384, scaled with the area), β in bits; fewer than `min_kept` pictures stop the run."""

    enabled: bool = True
    min_target_pixels: int = Field(default=256, ge=0)
    max_entropy: float = Field(default=2.5, ge=0, le=8)
    min_kept: int = Field(default=16, ge=1)


class StudentSpec(NetworkSpec, Recipe):
    """The network that learns from all sites. `augment` defaults to "flip" with views (they are bent already), else to "paper"."""

    workers: int = Field(default=1, ge=1)
    gpus_per_worker: float = Field(default=0, ge=0)
    storage: str | None = None
    validation: Share = 0.05
    temperature: float = Field(default=0.5, ge=0.05, le=20)
    calibrate: bool = True


class FineTuneSpec(Recipe):
    """Algorithm 2: on a few annotated pictures of the coordinator's; `at_sites`: on the private ones of each site that allows
    it, where the personalised student stays."""

    images: Path | None = None
    masks: Path | None = None
    at_sites: bool = False
    epochs: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0)

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        for given, lacking in (("images", "masks"), ("masks", "images")):
            if getattr(self, given) and not getattr(self, lacking):
                raise ValueError(f"has {given} but no {lacking}; give both folders")
        if not (self.images or self.at_sites):
            raise ValueError(
                "needs annotated pictures: give images and masks of the coordinator's, "
                "or at_sites = true for the private ones of the sites"
            )
        return self


class TestSpec(Part):
    """A named test set at the coordinator."""

    __test__ = False  # not a pytest class
    name: Name
    images: Path
    masks: MaskFolders
    classes: tuple[Name, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        return written(raw)

    @model_validator(mode="after")
    def _has_masks(self) -> Self:
        refuse_masks(f"test set {self.name!r}", self.masks, self.classes)
        return self


class RoundSpec(Part):
    """The exchange with the sites: how large a chunk is, how lossy the masks may be, how long to wait, how many sites must stay,
    whether what a site had answered before it went away is used, and whether sites are asked to judge the student."""

    chunk_mb: float = Field(default=8.0, gt=0, le=64)
    near: int = Field(default=0, ge=0, le=8)
    in_flight: int = Field(default=64, ge=1, le=256)
    site_timeout: float = Field(default=43200, gt=0)
    min_sites: int | None = Field(default=None, ge=1)
    unfinished: Literal["drop", "use"] = "drop"
    judge_student: bool = False


class ResourcesSpec(Part):
    """Threads decide the last bits of a float sum, so they are part of the study: the same numbers give the same student."""

    site_threads: int = Field(default=1, ge=1)
    student_threads: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)
    sites_at_once: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1)


class StudySpec(Part):
    """Name, seed and the square size in pixels on which everything happens."""

    name: Name
    seed: int = Field(default=0, ge=0, lt=2**31)
    image_size: int = Field(default=384, ge=32, le=2048)
    preset: Literal["default", "paper"] = "default"

    @field_validator("image_size")
    @classmethod
    def _whole_strides(cls, size: int) -> int:
        if size % 32:
            raise ValueError(
                f"must be a multiple of 32, the stride of the deepest encoder; nearest is {max(32, round(size / 32) * 32)}"
            )
        return size


class Study(Part):
    """A whole run. All paths are absolute after loading."""

    study: StudySpec
    site: list[SiteSpec] = Field(min_length=1)
    transferal: TransferalSpec
    fusion: FusionSpec = FusionSpec()
    filter: FilterSpec = FilterSpec()
    round: RoundSpec = RoundSpec()
    student: StudentSpec
    fine_tune: FineTuneSpec | None = None
    test: list[TestSpec] = Field(default_factory=list)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)

    @property
    def site_names(self) -> list[str]:
        return [site.name for site in self.site]

    @property
    def classes(self) -> tuple[str, ...]:
        """What the student learns; ("",) in a study with one class (`nakt_fed.classes`)."""
        return union(site.classes for site in self.site)

    def knowing(self, label: str) -> list[str]:
        """The sites whose teachers know a class."""
        return [site.name for site in self.site if not label or label in site.classes]

    def of_class(self, label: str) -> "Study":
        """The study of one class: the sites and test sets that know it, for whoever looks at what they have answered."""
        if not label:
            return self
        sites = [site.model_copy(update={"classes": (label,)}) for site in self.site if label in site.classes]
        tests = [test.model_copy(update={"classes": (label,)}) for test in self.test if label in test.classes]
        fusion = self.fusion.model_copy(
            update={"weights": {k: v for k, v in self.fusion.weights.items() if k in self.knowing(label)}}
        )
        student = self.student.model_copy(update={"classes": 1})
        return self.model_copy(update={"site": sites, "test": tests, "fusion": fusion, "student": student})

    def judged(self, test: "SiteSpec | TestSpec") -> tuple[str, ...]:
        """The classes that a test set, or a site's held-out share, has masks of."""
        return test.classes if self.classes != ONE else ONE

    @property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """The classes that each site answers; empty in a study with one class."""
        return {site.name: site.classes for site in self.site} if self.classes != ONE else {}

    def chunk(self, count: int) -> int:
        """Pictures in a chunk of a set of `count` pictures: what `round.chunk_mb` (10⁶ bytes, before coding) holds.

        At most an eighth of the set, so that small pictures too show progress and a kill loses little, unless that is
        less than LEAST_CHUNK.
        """
        fits = max(1, round(self.round.chunk_mb * 1e6) // self.study.image_size**2)
        return min(fits, max(LEAST_CHUNK, math.ceil(count / LEAST_CHUNKS)), MOST_CHUNK)

    @property
    def min_sites(self) -> int:
        """Without a number, every site must stay."""
        return self.round.min_sites or len(self.site)

    @property
    def tunes_here(self) -> bool:
        """Whether the student is fine-tuned on pictures of the coordinator's."""
        return self.fine_tune is not None and self.fine_tune.images is not None

    @property
    def tunes_at_sites(self) -> bool:
        """Whether the sites are asked to fine-tune the student on theirs."""
        return self.fine_tune is not None and self.fine_tune.at_sites

    @property
    def test_names(self) -> list[str]:
        """The sites' held-out shares first, then the coordinator's own test sets."""
        return [site.name for site in self.site if site.test_share] + [test.name for test in self.test]

    @model_validator(mode="before")
    @classmethod
    def _outputs(cls, raw: Any) -> Any:
        sites = raw.get("site") if isinstance(raw, dict) else None
        each = sites if isinstance(sites, list) else []
        return with_outputs(raw, "student", union(names_in(written(site)) for site in each))

    @model_validator(mode="after")
    def _label_sets(self) -> Self:
        refuse_label_sets(self.site, self.test)
        refuse_outputs("the sites together know", "student", self.student.classes, self.classes)
        if self.classes != ONE and (self.fine_tune or self.round.judge_student):
            key = "fine_tune" if self.fine_tune else "round.judge_student"
            raise ValueError(f"{key} works with one class, but the sites know {list(self.classes)}; leave it out")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        _refuse_twins("site", self.site_names)
        _refuse_twins("test set", self.test_names)
        _refuse_reserved(self.site_names)
        if self.min_sites > len(self.site):
            raise ValueError(f"round.min_sites is {self.min_sites}, but the study has {len(self.site)} sites; lower it")
        refuse_missing_weights(self.fusion, self.site_names)
        if self.tunes_at_sites:
            _refuse_not_at_sites(self)
        return self


class RemoteSite(Part):
    """A hospital of a deployment: its name, and its classes where sites know different ones; the rest is in its own site file."""

    name: Name
    classes: tuple[Name, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        return written(raw)

    @model_validator(mode="after")
    def _once(self) -> Self:
        refuse_masks(f"site {self.name!r}", None, self.classes)
        return self

    @property
    def test_share(self) -> float:
        """Its pictures never reach the coordinator."""
        return 0.0


class FederatedStudy(Study):
    """A study as the coordinator of a deployment knows it: sites by name."""

    site: list[RemoteSite] = Field(min_length=1)  # type: ignore[assignment]


def refuse_missing_weights(fusion: FusionSpec, sites: list[str]) -> None:
    """Raise StudyError when weights by hand are asked for, and not every site has one."""
    if fusion.weighting == "fixed" and set(fusion.weights) != set(sites):
        raise StudyError(f'fusion.weighting = "fixed" needs a weight for each of {sites}, got {sorted(fusion.weights)}')


def _refuse_not_at_sites(study: Study) -> None:
    """Raise ValueError when no site could personalise the student."""
    if ":" in study.student.network.removeprefix("smp:"):
        raise ValueError(
            f"fine_tune.at_sites: the student's network {study.student.network!r} is code of yours, which no site "
            "imports; take a network that nakt-fed knows by name, or set at_sites = false"
        )
    if all(isinstance(site, SiteSpec) and not site.test_share for site in study.site):
        raise ValueError(
            "fine_tune.at_sites: no site has a test_share, and what a student is measured on is never learned from; "
            "give each [[site]] one, such as test_share = 0.2"
        )


def _refuse_twins(what: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two {what}s are called {name!r}; give each its own name")


def _refuse_reserved(names: list[str]) -> None:
    for name in set(names) & {"ensemble", "student"}:
        raise ValueError(f"a site cannot be called {name!r}: the results use that name; rename the site")
