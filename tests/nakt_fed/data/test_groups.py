"""A patient's pictures stay together wherever pictures are held out; folders without patients are split as ever."""

import json
from pathlib import Path

import pytest

from nakt_fed.data.folders import PictureSet, load_annotated
from nakt_fed.data.imports.manifest import NAME
from nakt_fed.data.imports.run import import_set
from nakt_fed.data.split import split_pictures
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.errors import DataError
from nakt_fed.recipe import Recipe
from nakt_fed.site.personal_training import learnable
from nakt_fed.site_data import private_data
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, pseudo_sets
from nakt_fed.study.pictures import SiteSpec
from tests.nakt_fed.data.imports.published import busbra
from tests.tiny import UNET

SIZE = 32


@pytest.fixture
def imported(tmp_path: Path) -> Path:
    """Four patients with two pictures each, none held out."""
    (tmp_path / "source").mkdir()
    import_set("busbra", busbra(tmp_path / "source"), tmp_path / "breast", test_share=0.0)
    return tmp_path / "breast"


def site(folder: Path, **more: object) -> SiteSpec:
    folders = {"images": folder / "images", "masks": folder / "masks"}
    return SiteSpec.model_validate({"name": "ann", **folders, "teacher": {**UNET, "validation": 0.3}, **more})


def patients(pictures: PictureSet) -> set[str]:
    """From the names of BUS-BRA's files, bus_0001-l.png."""
    return {name.rpartition("-")[0] for name in pictures.ids}


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_two_sides_of_a_site(imported: Path, seed: int) -> None:
    data = private_data(site(imported, test_share=0.25), SIZE, seed)
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 2, 2)
    assert not patients(data.train) & patients(data.validation)
    assert not patients(learnable(data)) & patients(data.test)
    again = learnable(data)
    rest, held = split_pictures(again, 0.4, seed)
    assert not patients(again.subset(rest)) & patients(again.subset(held))


def test_nor_of_a_students_fine_tuning(imported: Path, tmp_path: Path) -> None:
    few = load_annotated(imported / "images", imported / "masks", SIZE)
    annotated = PseudoSet(tmp_path / "few.zarr", SIZE, 4, few.ids, groups=few.groups)
    annotated.add(few.images, few.masks)
    annotated.close("annotated")
    places = {"pseudo": str(tmp_path / "few.zarr"), "out": tmp_path, "events": tmp_path / "events.jsonl"}
    job = StudentJob.model_validate(
        {
            "who": "student",
            **places,
            "network": {"network": "unet", "width": 2},
            "recipe": Recipe(validation=0.3),
            "seed": 1,
            "threads": 1,
        }
    )
    training, validation = pseudo_sets(job)
    assert (len(training), len(validation)) == (6, 2)
    assert not patients(training) & patients(validation)


def test_the_imports_own_test_folder_knows_its_patients_too(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    import_set("busbra", busbra(tmp_path / "source"), tmp_path / "breast", test_share=0.5)
    test = load_annotated(tmp_path / "breast/test/images", tmp_path / "breast/test/masks", SIZE)
    assert test.groups is not None
    assert len(set(test.groups)) == 2


def test_a_picture_that_was_added_later_stands_for_itself(imported: Path) -> None:
    for part in ("images", "masks"):
        (imported / part / "new.png").write_bytes(next((imported / part).iterdir()).read_bytes())
    groups = load_annotated(imported / "images", imported / "masks", SIZE).groups
    assert groups is not None
    assert "breast/new" in groups
    assert len(set(groups)) == 5


def test_folders_without_patients_are_split_as_ever(tmp_path: Path) -> None:
    """The names are what nakt-fed held out before it knew of patients; a dataset.json of another program is none of ours."""
    write_folder(synthetic_set(12, SIZE, 1), tmp_path / "plain")
    for content in (None, {"numTraining": 12}, []):
        if content is not None:
            (tmp_path / "plain" / NAME).write_text(json.dumps(content))
        data = private_data(site(tmp_path / "plain", test_share=0.25), SIZE, 7)
        assert data.train.groups is None
        assert [name.partition("/")[2] for name in data.test.ids] == TEST
        assert [name.partition("/")[2] for name in data.validation.ids] == VALIDATION


TEST = ["0002", "0008", "0011"]
VALIDATION = ["0001", "0005", "0010"]


def test_a_site_with_one_patient_has_no_test_share(imported: Path) -> None:
    for part in ("images", "masks"):
        for path in (imported / part).iterdir():
            if "0001" not in path.name:
                path.unlink()
    with pytest.raises(DataError, match=r"are of one patient, so none can be held out; .* test_share = 0"):
        private_data(site(imported, test_share=0.25), SIZE, 7)
    assert len(private_data(site(imported), SIZE, 7).train) == 2
