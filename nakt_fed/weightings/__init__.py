"""Ways of combining the sites' answers: one interface (`scheme.py`), one small file per family, found by name.

A name is one of BUILT_IN, or a user's own `module:function` (docs/research.md).
"""

from typing import TYPE_CHECKING

from nakt_fed.errors import StudyError
from nakt_fed.own_code import imported
from nakt_fed.suggest import suggestion

if TYPE_CHECKING:
    from nakt_fed.weightings.scheme import Scheme

BUILT_IN = {
    "uniform": "linear",
    "n_images": "linear",
    "validation": "linear",
    "fixed": "linear",
    "confidence": "per_pixel",
    "variance": "per_pixel",
    "majority": "votes",
    "geometric_mean": "pools",
    "era": "pools",
    "median": "ranks",
    "trimmed_mean": "ranks",
    "staple": "staple",
    "agreement": "agreement",
    "simple": "selection",
    "rasa": "selection",
    "shapley": "shapley",
    "learned": "learned",
    "robust": "robust",
}
"""Name -> the module here that defines a function of this name. Imports nothing: `nakt --help` and study files stay quick."""


def is_own(name: str) -> bool:
    """Whether the name is `module:function`, code that a user brings along."""
    return ":" in name


def refuse_unknown(name: str) -> None:
    """Raise StudyError unless a scheme can have this name (the nearest known ones are given). Imports nothing."""
    if name in BUILT_IN or (is_own(name) and all(name.split(":"))):
        return
    raise StudyError(
        f"unknown weighting {name!r}; {suggestion(name, BUILT_IN, most=2)} "
        "(one of your own is written 'module:function')"
    )


def find(name: str) -> "Scheme":
    """The scheme of this name.

    Raises:
        StudyError: there is none, or a user's own cannot be imported or is no decorated function.
    """
    from nakt_fed.weightings.scheme import Scheme

    refuse_unknown(name)
    found = imported(name if is_own(name) else f"{__name__}.{BUILT_IN[name]}:{name}", "weighting")
    if not isinstance(found, Scheme):
        raise StudyError(f"weighting {name!r} is a {type(found).__name__}; decorate the function with @weighting(...)")
    return found
