"""Teachers that know different classes: each class is fused over the sites that know it, the student learns the union."""

from pathlib import Path
from typing import Any

import pytest

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.study import Study
from simulation.oracle import run_in_process
from tests.tiny import tiny_study

TWO = {"network": "unet", "width": 2, "epochs": 1, "batch_size": 4}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ann knows lesions, bob lesions and nodules, cid nodules; `outside` has masks of both."""
    root = tmp_path_factory.mktemp("labels")
    for seed, (name, count) in enumerate({"ann": 8, "bob": 8, "cid": 8, "organ": 7, "outside": 3}.items()):
        write_folder(synthetic_set(count, 32, seed), root / name)
    for name in ("bob", "outside"):
        other = synthetic_set(8 if name == "bob" else 3, 32, 99)
        write_folder(other, root / f"{name}-other")
        for path in sorted((root / f"{name}-other" / "masks").iterdir()):
            path.rename(path)
    return root


def both(name: str) -> dict[str, str]:
    return {"nodule": f"{name}-other/masks", "lesion": f"{name}/masks"}


def label_study(root: Path, **tables: Any) -> Study:
    sites = [
        {"name": "ann", "images": "ann/images", "masks": "ann/masks", "classes": ["lesion"], "teacher": TWO},
        {"name": "bob", "images": "bob/images", "masks": both("bob"), "teacher": TWO, "test_share": 0.3},
        {"name": "cid", "images": "cid/images", "masks": "cid/masks", "classes": ["nodule"], "teacher": TWO},
    ]
    test = [{"name": "outside", "images": "outside/images", "masks": both("outside")}]
    return tiny_study(root, **{"site": sites, "test": test, "transferal": {"views": 1}, "student": TWO, **tables})


def test_a_study_runs(root: Path, tmp_path: Path) -> None:
    study = label_study(root)
    assert study.classes == ("lesion", "nodule")
    run_in_process(study, tmp_path)
