"""What does not go together in a study: each raises ValueError, which is told with the file's name."""

import unicodedata
from typing import TYPE_CHECKING

from nakt_fed.errors import StudyError
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.study.tables import FusionSpec

if TYPE_CHECKING:
    from nakt_fed.study.study import Study


def refuse_missing_weights(fusion: FusionSpec, sites: list[str]) -> None:
    """Raise StudyError when weights by hand are asked for, and not every site has one."""
    if fusion.weighting == "fixed" and set(fusion.weights) != set(sites):
        raise StudyError(f'fusion.weighting = "fixed" needs a weight for each of {sites}, got {sorted(fusion.weights)}')
    if fusion.weighting == "fixed" and not any(fusion.weights.values()):
        raise StudyError("fusion.weights are all zero; give at least one site a positive weight")


def refuse_not_at_sites(study: "Study") -> None:
    """Raise ValueError when no site could personalise the student."""
    if ":" in study.student.network.removeprefix("smp:"):
        raise ValueError(
            f"fine_tune.at_sites: the student's network {study.student.network!r} is code of yours, which no site "
            "imports; take a network that nakt-fed knows by name, or set at_sites = false"
        )
    if all(isinstance(site, SiteSpec) and not site.test_share for site in study.site):
        raise ValueError(
            "fine_tune.at_sites: no site has a test_share, and what a student is measured on is never learned from; "
            "give each [[site]] one, such as test_share = 0.2"
        )


def refuse_twins(what: str, names: list[str]) -> None:
    """Raise ValueError when two are called alike. `what`: what they are."""
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(unicodedata.normalize("NFC", name).casefold(), name)
        if names.count(name) > 1:
            raise ValueError(f"two {what}s are called {name!r}; give each its own name")
        if twin != name:
            raise ValueError(
                f"the {what}s {twin!r} and {name!r} differ only in how they are written: where case does not count, their folders "
                "would be one; give each its own name"
            )


def refuse_reserved(names: list[str]) -> None:
    """Raise ValueError when a site is called as the results call something else."""
    for name in (name for name in names if name.casefold() in {"ensemble", "student"}):
        raise ValueError(f"a site cannot be called {name!r}: the results use that name; rename the site")
