"""What a network is and how it is fitted, as the study and site files say it."""

from typing import Literal

from pydantic import Field

from nakt_fed.toml_types import Part, Share


class NetworkSpec(Part):
    """An architecture by name: one of the five, any other of segmentation_models_pytorch, or a user's `module:factory`."""

    network: str
    width: int | None = Field(default=None, ge=2)
    encoder: str | None = None
    classes: int = Field(default=1, ge=1, le=64)

    def spec(self) -> "NetworkSpec":
        """Only the architecture, without what a subclass adds."""
        return NetworkSpec(**{name: getattr(self, name) for name in NetworkSpec.model_fields})


class Recipe(Part):
    """How a network is fitted. The defaults suit small machines; `preset = "paper"` takes the paper's (A.3)."""

    epochs: int = Field(default=20, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0, le=1)
    schedule: Literal["constant", "cosine"] = "cosine"
    ema: float = Field(default=0.995, ge=0, lt=1)
    augment: Literal["paper", "flip", "none"] = "paper"
    overlap: Literal["product", "minimum"] = "product"
    validation: Share = 0.1
    keep: Literal["best", "last"] = "last"
    precision: Literal["auto", "mixed", "float32"] = "auto"

    def recipe(self) -> "Recipe":
        """Only the recipe, without what a subclass adds."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})
