"""The tables of a study file about who learns: a site's teacher, the student, and the student's fine-tuning."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.toml_types import Place, Share

Width = Annotated[int, Field(ge=2, le=512)]
"""Of a network that is to be trained or kept here; more than the largest is a slip that takes a machine's memory."""


class TeacherSpec(NetworkSpec, Recipe):
    """A site's network: trained on the site's private pictures, or loaded from a checkpoint."""

    width: Width | None = None
    checkpoint: Place | None = None
    binary: bool = False


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
