"""Reads and writes study files: defaults that depend on other keys, absolute paths, faults named with the remedy."""

import copy
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nakt_fed.classes import written
from nakt_fed.errors import StudyError
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.pictures import TransferalSpec
from nakt_fed.study.tables import StudySpec
from nakt_fed.toml_file import dump, explain, parse, read_toml

PAPER_RECIPE: dict[str, Any] = {
    "learning_rate": 1e-4,
    "batch_size": 4,
    "schedule": "constant",
    "ema": 0.0,
    "augment": "paper",
}


def _with_defaults(raw: dict[str, Any]) -> dict[str, Any]:
    """Defaults that depend on other keys: the paper's preset, and how the student's pictures are augmented."""
    raw = copy.deepcopy(raw)
    if _table(raw, "study").get("preset") == "paper":
        _paper(raw)
    views = _table(raw, "transferal").get("views", TransferalSpec.model_fields["views"].default)
    _under(raw, "student", {"augment": "flip" if views else "paper"})
    return raw


def _paper(raw: dict[str, Any]) -> None:
    """The paper's recipe (A.3) under every key that the user did not write: Adam 1e-4, batch 4, 500 epochs for teachers, no views."""
    _under(raw, "transferal", {"views": 0})
    sites = raw.get("site")
    for site in sites if isinstance(sites, list) else []:
        _under(site, "teacher", {"epochs": 500, **PAPER_RECIPE})
    _under(raw, "student", {"epochs": 175, "temperature": 1.0, "calibrate": False, **PAPER_RECIPE})
    _under(raw, "fine_tune", {"epochs": 50, **PAPER_RECIPE})


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key)
    return value if isinstance(value, dict) else {}


def _under(raw: Any, key: str, defaults: dict[str, Any]) -> None:
    """Put defaults under what the user wrote; what is no table is left for the validation to name."""
    if isinstance(raw, dict) and isinstance(raw.get(key), dict):
        raw[key] = {**defaults, **raw[key]}


def load_study(path: Path) -> Study:
    """Read, validate and make every path absolute. Sites that are only named make it a study for a deployment.

    Raises:
        StudyError: the file is missing, not TOML, has an unknown key (the nearest known one is named) or an impossible value.
    """
    path, raw = read_toml(path, "study file")
    return parse_study(raw, path.parent, str(path))


def load_federated(path: Path) -> FederatedStudy:
    """The study as the coordinator of a deployment needs it: of each site only name and classes. Raises StudyError like `load_study`."""
    path, raw = read_toml(path, "study file")
    sites = raw.get("site")
    if isinstance(sites, list):
        raw["site"] = [_remote(site) if isinstance(site, dict) else site for site in sites]
    return parse(FederatedStudy, _with_defaults(raw), path.parent, str(path))


def _remote(site: dict[str, Any]) -> dict[str, Any]:
    return {"name": site.get("name")} | {key: value for key, value in written(site).items() if key == "classes"}


def parse_study(raw: dict[str, Any], base: Path, source: str = "the study") -> Study:
    """Validate a study given as a dict; relative paths are taken from `base`. Raises StudyError like `load_study`."""
    return parse(FederatedStudy if _only_named(raw) else Study, _with_defaults(raw), base, source)


def _only_named(raw: dict[str, Any]) -> bool:
    sites = raw.get("site")
    return (
        isinstance(sites, list)
        and bool(sites)
        and all(isinstance(s, dict) and {"name"} <= set(s) <= {"name", "classes"} for s in sites)
    )


def dump_study(study: Study) -> str:
    """The resolved study as TOML, with every default written out; `load_study` reads it back equal."""
    return dump(study)


def checked_parts(network: dict[str, Any], recipe: dict[str, Any], image_size: int) -> tuple[NetworkSpec, Recipe, int]:
    """The same rules for a part on its own. Raises StudyError like `load_study`."""
    try:
        StudySpec(name="part", image_size=image_size)
        return NetworkSpec(**network), Recipe(**recipe), image_size
    except ValidationError as error:
        raise StudyError("this cannot be trained:\n" + explain(NetworkSpec, error)) from None
