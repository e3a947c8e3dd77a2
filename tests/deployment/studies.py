"""A small study as the coordinator writes it, and the same one for the oracle."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tomli_w

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.study import Study
from nakt_fed.study.file import parse_study
from tests.deployment.hospitals import SIZE, WIDTH, masks_of
from tests.tiny import megabytes

RAW: dict[str, Any] = {
    "study": {"name": "tiny", "seed": 3, "image_size": SIZE},
    "transferal": {"views": 0},
    "filter": {"max_entropy": 8.0, "min_target_pixels": 0, "min_kept": 2},
    "round": {"chunk_mb": megabytes(2), "in_flight": 4},
    "student": {"network": "unet", "width": WIDTH, "epochs": 1, "batch_size": 4},
    "resources": {"site_threads": 1, "student_threads": 1, "sites_at_once": 1},
}

Asked = Mapping[str, Sequence[str]]
NO_NAMES: Asked = MappingProxyType({})


def write_study(
    root: Path,
    names: Sequence[str],
    name: str,
    pictures: int,
    seed: int = 0,
    asked: Asked = NO_NAMES,
    **tables: dict[str, Any],
) -> Path:
    """The coordinator's study over new pictures; each keyword replaces keys of a table. `asked`: the sites' classes."""
    write_folder(synthetic_set(pictures, SIZE, seed=1000 + seed), root / f"{name}-pictures")
    sites = [{"name": site, "classes": list(asked.get(site, ()))} for site in names]
    raw = _raw(name, **tables) | {"site": sites}
    path = root / f"{name}.toml"
    path.write_text(tomli_w.dumps(raw))
    return path


def _raw(name: str, **tables: dict[str, Any]) -> dict[str, Any]:
    raw = {key: {**RAW.get(key, {}), **tables.get(key, {})} for key in RAW | tables}
    raw["transferal"] |= {"images": [f"{name}-pictures/images"]}
    return raw


def local_study(
    root: Path, names: Sequence[str], name: str, asked: Asked = NO_NAMES, **tables: dict[str, Any]
) -> Study:
    """The same study and the same weights, for the oracle."""
    sites = [
        {
            "name": site,
            "images": f"{site}/private/images",
            "masks": _at(site, masks_of(asked.get(site, ()))),
            "classes": list(asked.get(site, ())),
            "teacher": {"network": "unet", "width": WIDTH, "checkpoint": f"{site}/quick.safetensors"},
        }
        for site in names
    ]
    return parse_study(_raw(name, **tables) | {"site": sites}, root)


def _at(site: str, masks: Any) -> Any:
    return {label: f"{site}/{each}" for label, each in masks.items()} if isinstance(masks, dict) else f"{site}/{masks}"
