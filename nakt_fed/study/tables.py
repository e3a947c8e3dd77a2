"""The tables of a study file that are settings: of the run, the fusion, the filter, the exchange and the machine."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from nakt_fed.cores import cores
from nakt_fed.toml_file import in_words
from nakt_fed.toml_types import Name, Part
from nakt_fed.weightings import refuse_unknown

Option = Annotated[bool | int | float | str, in_words("an option is true, false, a finite number or a text")]
Weight = Annotated[float, Field(ge=0)]
Entropy = Annotated[float, Field(ge=0, le=8)]
Pixels = Annotated[int, Field(ge=0, le=384**2)]
"""α, at 384×384: with more than there are, no picture would ever be kept."""
Seed = Annotated[int, Field(ge=0, lt=2**31)]


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
    student_threads: int = Field(default_factory=cores, ge=1)
    sites_at_once: int = Field(default_factory=cores, ge=1)


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
