"""The tables of a study file: what a user may write in each of them, and what cannot be."""

import os
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from nakt_fed.classes import (
    names_in,
    refuse_masks,
    refuse_outputs,
    with_outputs,
    written,
)
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.toml_file import in_words
from nakt_fed.toml_types import Name, Names, Part, Place, Share
from nakt_fed.weightings import refuse_unknown

MaskFolders = Annotated[
    Place | dict[Name, Place],
    in_words('write a folder, or a table of one folder per class, { lesion = "…" }; a class is named like a site'),
]
"""A folder of masks, or where there are several classes one per class."""
Option = Annotated[bool | int | float | str, in_words("an option is true, false, a finite number or a text")]
Width = Annotated[int, Field(ge=2, le=512)]
"""Of a network that is to be trained or kept here; more than the largest is a slip that takes a machine's memory."""
Weight = Annotated[float, Field(ge=0)]
Entropy = Annotated[float, Field(ge=0, le=8)]
Pixels = Annotated[int, Field(ge=0, le=384**2)]
"""α, at 384×384: with more than there are, no picture would ever be kept."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class TeacherSpec(NetworkSpec, Recipe):
    """A site's network: trained on the site's private pictures, or loaded from a checkpoint."""

    width: Width | None = None
    checkpoint: Place | None = None
    binary: bool = False


class SiteSpec(Part):
    """One hospital. `test_share` of its pictures is held out and used as a test set named after the site (simulation only).

    Without images, which only a teacher from a checkpoint allows, nothing is held out and no overlap is counted.
    `classes` are what the teacher knows, when sites know different ones; a table of mask folders names them too.
    """

    name: Name
    images: Place | None = None
    masks: MaskFolders | None = None
    classes: Names = ()
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

    images: list[Place] = Field(min_length=1)
    views: int = Field(default=20, ge=0, le=999)
    mix: float = Field(default=0.7, ge=0, le=1)
    duplicates: Literal["refuse", "drop"] = "refuse"


class FusionSpec(Part):
    """How the sites' answers are combined: a scheme by name or a user's own `module:function`, and its options.

    `weights` are given for `fixed` only; `annotated` names the test set that `learned` may look at.
    """

    weighting: str = "uniform"
    weights: dict[str, Weight] = Field(default_factory=dict)
    options: dict[str, Option] = Field(default_factory=dict)
    annotated: Name | None = None

    @field_validator("weighting")
    @classmethod
    def _known(cls, name: str) -> str:
        refuse_unknown(name)
        return name


class FilterSpec(Part):
    """α (at 384×384, scaled with the area), β in bits; fewer than `min_kept` pictures stop the run."""

    enabled: bool = True
    min_target_pixels: Pixels = 256
    max_entropy: Entropy = 2.5
    min_kept: int = Field(default=16, ge=1)


class StudentSpec(NetworkSpec, Recipe):
    """The network that learns from all sites. `augment` defaults to "flip" with views (they are bent already), else to "paper"."""

    width: Width | None = None
    workers: int = Field(default=1, ge=1)
    gpus_per_worker: float = Field(default=0, ge=0)
    storage: str | None = None
    validation: Share = 0.05
    temperature: float = Field(default=0.5, ge=0.05, le=20)
    calibrate: bool = True

    @model_validator(mode="after")
    def _something_for_each(self) -> Self:
        if self.workers > self.batch_size:
            raise ValueError(
                f"{self.workers} workers share a batch of {self.batch_size} pictures (batch_size), so some would only repeat "
                "others' work; lower workers, or raise batch_size"
            )
        return self


class FineTuneSpec(Recipe):
    """Algorithm 2: on a few annotated pictures of the coordinator's; `at_sites`: on the private ones of each site that allows
    it, where the personalised student stays."""

    images: Place | None = None
    masks: Place | None = None
    at_sites: bool = False
    epochs: int = Field(default=50, ge=1)
    learning_rate: float = Field(default=1e-4, gt=0, le=1)

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
    images: Place
    masks: MaskFolders
    classes: Names = ()

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
    seed: Seed = 0
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
