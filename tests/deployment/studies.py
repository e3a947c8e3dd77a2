"""A small study as the coordinator writes it, and the same one for the oracle."""

from pathlib import Path
from typing import Any

import tomli_w

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.study import Study
from nakt_fed.study.file import parse_study
from tests.deployment.hospitals import SIZE, WIDTH
from tests.tiny import megabytes

RAW: dict[str, Any] = {
    "study": {"name": "tiny", "seed": 3, "image_size": SIZE},
    "transferal": {"views": 0},
    "filter": {"max_entropy": 8.0, "min_target_pixels": 0, "min_kept": 2},
    "round": {"chunk_mb": megabytes(2), "in_flight": 4},
    "student": {"network": "unet", "width": WIDTH, "epochs": 1, "batch_size": 4},
    "resources": {"site_threads": 1, "student_threads": 1, "sites_at_once": 1},
}


def write_study(
    root: Path, names: tuple[str, ...], name: str, pictures: int, seed: int = 0, **tables: dict[str, Any]
) -> Path:
    """The coordinator's study over new pictures; each keyword replaces keys of a table."""
    write_folder(synthetic_set(pictures, SIZE, seed=1000 + seed), root / f"{name}-pictures")
    raw = _raw(name, **tables) | {"site": [{"name": site} for site in names]}
    path = root / f"{name}.toml"
    path.write_text(tomli_w.dumps(raw))
    return path


def _raw(name: str, **tables: dict[str, Any]) -> dict[str, Any]:
    raw = {key: {**RAW.get(key, {}), **tables.get(key, {})} for key in RAW | tables}
    raw["transferal"] |= {"images": [f"{name}-pictures/images"]}
    return raw


def local_study(root: Path, names: tuple[str, ...], name: str, **tables: dict[str, Any]) -> Study:
    """The same study and the same weights, for the oracle."""
    sites = [
        {
            "name": site,
            "images": f"{site}/private/images",
            "masks": f"{site}/private/masks",
            "teacher": {"network": "unet", "width": WIDTH, "checkpoint": f"{site}/quick.safetensors"},
        }
        for site in names
    ]
    return parse_study(_raw(name, **tables) | {"site": sites}, root)
