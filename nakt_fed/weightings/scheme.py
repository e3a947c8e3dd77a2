"""What a combining scheme is: a function to pseudo masks or to weights, declared with what it needs."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from nakt_fed.errors import NaktError, StudyError
from nakt_fed.own_code import told
from nakt_fed.suggest import suggestion

Masks = NDArray[np.uint8]
"""(n, H, W), probability × 255."""
Weights = Mapping[str, Any]
"""Per site a number, (n,) one per picture, or (n, H, W) one per pixel; only their proportions count (`mean.weighted_mean`)."""
Needs = Literal["sums", "site_masks"]
Over = Literal["run", "picture"]
AtLeastZero = Annotated[float, Field(ge=0)]
AboveZero = Annotated[float, Field(gt=0)]
Times = Annotated[int, Field(ge=1)]
"""Limits of an option: they stand at the parameter, and are looked at before a run starts (`check.refuse_options`)."""
Statistic = Literal["n_images", "validation_dice", "weights"]


class Stored(Protocol):
    """What is stored of the sites' answers."""

    def chunks(self) -> Iterator[Mapping[str, Masks]]:
        """The transferal set, chunk by chunk: every site's masks."""

    def annotated(self) -> Iterator[tuple[Mapping[str, Masks], Masks]]:
        """The annotated set, chunk by chunk: every site's masks, and the truth (0 or 255)."""


@dataclass(frozen=True)
class Answers:
    """A few pictures as the sites answered them, for a scheme that needs `site_masks`. Sites come in the order of their names.

    `statistic`: the number of every site that the scheme declares, or what its `first` has found.
    """

    masks: Mapping[str, Masks]
    statistic: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Sums:
    """The same as sums over the sites of what `part` made of each one's masks: all that secure aggregation would deliver."""

    parts: tuple[NDArray[Any], ...]
    sites: int


@dataclass(frozen=True)
class Whole:
    """A run, for a scheme that weighs the sites once: `stored` is there when it needs `site_masks`."""

    sites: tuple[str, ...]
    statistic: Mapping[str, float]
    stored: Stored | None
    seed: int = 0


@dataclass(frozen=True)
class Scheme:
    """A combining scheme as `weighting` declares it; calling it calls the function."""

    function: Callable[..., Any]
    needs: Needs
    over: Over
    part: Callable[[Masks], tuple[NDArray[Any], ...]] | None
    soft: bool
    statistic: Statistic | None
    annotated: bool
    first: Callable[[Whole], Mapping[str, float]] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        with self.own_faults():
            return self.function(*arguments, **options)

    @contextmanager
    def own_faults(self) -> Iterator[None]:
        """Around all that runs a user's own code: its faults become StudyError, with file and line."""
        try:
            yield
        except NaktError:
            raise
        except Exception as error:
            if self.function.__module__.startswith("nakt_fed."):
                raise
            name = f"{self.function.__module__}:{self.function.__name__}"
            raise StudyError(f"weighting {name!r} failed: {told(error)}; mend it there") from error

    @property
    def options(self) -> dict[str, Any]:
        """Its options with their defaults: the function's keyword-only parameters."""
        parameters = inspect.signature(self.function).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

    def code_sha256(self) -> str:
        """Of the file that defines it: after a change of the code nothing fused before is taken for its result."""
        return hashlib.sha256(Path(inspect.getsourcefile(self.function) or __file__).read_bytes()).hexdigest()


def weighting(
    *,
    needs: Needs,
    over: Over = "picture",
    part: Callable[[Masks], tuple[NDArray[Any], ...]] | None = None,
    soft: bool = False,
    statistic: Statistic | None = None,
    annotated: bool = False,
    first: Callable[[Whole], Mapping[str, float]] | None = None,
) -> Callable[[Callable[..., Any]], Scheme]:
    """Declare a function as a combining scheme. Its keyword-only parameters are the scheme's options.

    | needs | over | the function gets | and returns |
    |---|---|---|---|
    | "site_masks" | "picture" | Answers of a few pictures | pseudo masks (n, H, W) uint8, or Weights |
    | "sums" | "picture" | Sums of what `part` made of each site's masks | pseudo masks |
    | either | "run" | Whole, once | {site: weight}: a weighted mean in fixed point (DESIGN §3) |

    Args:
        part: a site's masks (n, H, W) uint8 -> arrays of unsigned or signed integers that are added over the sites.
        soft: refuses binary teachers.
        statistic: a number of every site: its training pictures, its validation Dice, or the weight that the study gives it.
        annotated: needs the sites' answers to an annotated set (`fusion.annotated`).
        first: looks through the run's answers once, before any picture: a number of every site, which each picture's
            `Answers.statistic` then holds.

    Raises:
        StudyError: the declaration contradicts itself.
    """
    for key, value, known in (("needs", needs, Needs), ("over", over, Over), ("statistic", statistic, Statistic)):
        if value is not None and value not in get_args(known):
            raise StudyError(
                f"{key} = {value!r} is not known; {suggestion(str(value), get_args(known))} mend @weighting"
            )
    if (needs == "sums" and over == "picture") != (part is not None):
        raise StudyError(
            'a weighting with needs = "sums" over pictures has a part, and no other has one; mend @weighting'
        )
    if annotated and (needs, over) != ("site_masks", "run"):
        raise StudyError('annotated = True goes with needs = "site_masks" and over = "run"; mend @weighting')
    if first and ((needs, over) != ("site_masks", "picture") or statistic):
        raise StudyError(
            'a weighting with first has needs = "site_masks", over = "picture" and no statistic; mend @weighting'
        )
    return lambda function: Scheme(function, needs, over, part, soft, statistic, annotated, first)
