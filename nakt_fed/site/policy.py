"""A site's policy: what it answers, whoever asks. The service reads it when it starts, and nothing from outside changes it."""

from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import Field, Strict, StringConstraints

from nakt_fed.toml_file import in_words
from nakt_fed.toml_types import Part

Sha256 = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9a-f]{64}$"),
    in_words("a SHA-256 has 64 digits of 0 to 9 and a to f; `nakt coordinator app` prints that of an app"),
]
Day = Annotated[date, in_words("a day is written 2027-12-31, year, month and day, without quotes or a time")]


class Policy(Part):
    """What this site answers, whoever asks. The gate reads nothing else.

    `apps`: SHA-256 of the Flower bundles that may run here; empty, none may. `min_pictures`: see `gate_sets.coarse`.
    `personalise_epochs` and what follows it are upper bounds of the recipe by which a student is fine-tuned here.
    """

    apps: Annotated[tuple[Sha256, ...], Strict(False)] = ()
    pictures_per_day: int = Field(default=20_000, ge=1)
    pictures_per_set: int = Field(default=20_000, ge=1)
    sets_per_day: int = Field(default=100, ge=1)
    min_pictures: int = Field(default=16, ge=1)
    answers: Literal["soft", "binary"] = "soft"
    evaluate_student: bool = False
    evaluations_per_day: int = Field(default=4, ge=1)
    min_evaluated: int = Field(default=10, ge=2)
    personalise_student: bool = False
    personalisations_per_day: int = Field(default=1, ge=1)
    personalise_epochs: int = Field(default=200, ge=1)
    personalise_batch_size: int = Field(default=16, ge=1)
    personalise_learning_rate: float = Field(default=0.01, gt=0)
    approval: Literal["automatic", "by hand"] = "by hand"
    expires: Day | None = None


def is_over(last: date | None, now: datetime) -> bool:
    """Whether the last day of answering, by UTC, is past."""
    return last is not None and now.astimezone(UTC).date() > last
