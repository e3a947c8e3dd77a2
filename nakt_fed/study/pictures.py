"""The tables of a study file about whose pictures: the sites, the transferal set, the coordinator's test sets."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from nakt_fed.classes import names_in, refuse_masks, refuse_outputs, with_outputs, written
from nakt_fed.study.learners import TeacherSpec
from nakt_fed.toml_file import in_words
from nakt_fed.toml_types import Name, Names, Part, Place, Share

MaskFolders = Annotated[
    Place | dict[Name, Place],
    in_words('write a folder, or a table of one folder per class, { lesion = "…" }; a class is named like a site'),
]
"""A folder of masks, or where there are several classes one per class."""


class _Classed(Part):
    """A table whose classes may be those of its table of mask folders."""

    @model_validator(mode="before")
    @classmethod
    def _written(cls, raw: Any) -> Any:
        return written(raw)


class SiteSpec(_Classed):
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
        raw = written(raw)  # first, since the teacher's outputs follow from it
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


class RemoteSite(_Classed):
    """A hospital of a deployment: its name, and its classes where sites know different ones; the rest is in its own site file."""

    name: Name
    classes: Names = ()

    @model_validator(mode="after")
    def _once(self) -> Self:
        refuse_masks(f"site {self.name!r}", None, self.classes)
        return self

    @property
    def test_share(self) -> float:
        """Its pictures never reach the coordinator."""
        return 0.0


class TransferalSpec(Part):
    """The pictures that are nobody's secret; `views` derived pictures per picture are answered by the teachers too."""

    images: list[Place] = Field(min_length=1)
    views: int = Field(default=20, ge=0, le=999)
    mix: float = Field(default=0.7, ge=0, le=1)
    duplicates: Literal["refuse", "drop"] = "refuse"


class TestSpec(_Classed):
    """A named test set at the coordinator."""

    __test__ = False  # not a pytest class
    name: Name
    images: Place
    masks: MaskFolders
    classes: Names = ()

    @model_validator(mode="after")
    def _has_masks(self) -> Self:
        refuse_masks(f"test set {self.name!r}", self.masks, self.classes)
        return self
