"""The types of what a user writes in a TOML file: a table, and the values that all files have in common."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict

from nakt_fed.toml_file import in_words

Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[
    str,
    Field(pattern=r"^\w[\w.-]*$", max_length=64),
    in_words('a name has at most 64 letters, digits, "_", "-" and ".", no spaces, and does not begin with "." or "-"'),
]
Place = Annotated[Path, Strict(False)]
"""A file or folder, which TOML writes as text."""
Names = Annotated[tuple[Name, ...], Strict(False)]
"""A tuple, which TOML writes as a list."""


class Part(BaseModel):
    """A table: unknown keys, NaN and infinity are refused, values never change after loading.

    TOML has types, so `true` is no number and "96" none either; a whole number may stand where any number is meant.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
