"""What the coordinator orders when a student is to be fine-tuned at a site, and the bounds that the site's policy sets."""

import hashlib
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.site.orders import SAME, Refusal
from nakt_fed.site.policy import Policy, Sha256


class PersonalOrder(BaseModel):
    """Which student (SHA-256 of its safetensors), what it is built from, and how it is fine-tuned."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    student: Sha256
    network: NetworkSpec
    recipe: Recipe

    @property
    def key(self) -> str:
        """The same for the same student and recipe: what was done once is found again by it. 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


def read_order(meta: dict[str, Any]) -> PersonalOrder:
    """Raises Refusal: bad_request."""
    try:
        return PersonalOrder.model_validate(meta)
    except ValidationError:
        text = f"the order does not say which student is fine-tuned here, its network and its recipe; {SAME}"
        raise Refusal("bad_request", text) from None


def refuse_beyond(recipe: Recipe, policy: Policy) -> None:
    """Raises Refusal (recipe_not_allowed): more epochs, a larger batch or a higher learning rate than the policy allows."""
    bounds: dict[str, float] = {
        "epochs": policy.personalise_epochs,
        "batch_size": policy.personalise_batch_size,
        "learning_rate": policy.personalise_learning_rate,
    }
    for name, most in bounds.items():
        if getattr(recipe, name) > most:
            text = f"this site fine-tunes a student with {name} up to {most:g}; lower fine_tune.{name}"
            raise Refusal("recipe_not_allowed", text)
