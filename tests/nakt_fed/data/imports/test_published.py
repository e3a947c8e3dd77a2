"""Every published layout comes out in the project's form, with manifest, split and licence."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nakt_fed.data.folders import load_annotated, load_pictures
from nakt_fed.data.imports.kinds import KINDS
from nakt_fed.data.imports.manifest import DatasetManifest, read_manifest
from nakt_fed.data.imports.run import import_set
from nakt_fed.data.imports.source import Options
from nakt_fed.data.imports.voc2012 import VOID
from tests.nakt_fed.data.imports.published import BOX, LAYOUTS
from tests.nakt_fed.test_schemas import validator

ANNOTATED = [name for name in LAYOUTS if name != "isic2019"]
COUNTS = {"busi": 10, "nerve": 9, "isic2017": 9, "isic2018": 6, "isic2019": 4, "voc2012": 2, "ddti": 4, "busbra": 8}
TRANSFERAL = COUNTS | {"nerve": 11, "voc2012": 4, "ddti": 5}
BOX_SHARE = (BOX[2] - BOX[0]) * (BOX[3] - BOX[1]) / (40 * 32)


def imported(kind: str, tmp_path: Path, share: float = 0.0, **choices: object) -> tuple[Path, DatasetManifest]:
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    LAYOUTS[kind](source)
    target = tmp_path / "target"
    return target, import_set(kind, source, target, test_share=share, options=Options(**choices))  # type: ignore[arg-type]


def by_name(manifest: DatasetManifest) -> dict[str, object]:
    return {entry.name: entry for entry in manifest.pictures}


@pytest.mark.parametrize("kind", ANNOTATED)
def test_a_published_set_loads_as_the_project_reads_it(kind: str, tmp_path: Path) -> None:
    target, manifest = imported(kind, tmp_path)
    loaded = load_annotated(target / "images", target / "masks", 32)
    assert len(loaded) == len(manifest.pictures) == COUNTS[kind]
    assert loaded.ids == [f"target/{name}" for name in sorted(entry.name for entry in manifest.pictures)]
    assert manifest.title == KINDS[kind].title
    assert manifest.licence
    assert manifest.citation
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("kind", LAYOUTS)
def test_the_manifest_fits_its_schema_and_the_files(kind: str, tmp_path: Path) -> None:
    target, manifest = imported(kind, tmp_path, share=0.3)
    validator("dataset").validate(json.loads((target / "dataset.json").read_text()))
    assert read_manifest(target) == manifest
    for entry in manifest.pictures:
        assert hashlib.sha256((target / entry.image).read_bytes()).hexdigest() == entry.sha256
        with Image.open(target / entry.image) as picture:
            assert picture.size == (entry.width, entry.height) == (40, 32)
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    known = {name for entry in manifest.pictures for name in (entry.image, entry.mask) if name}
    assert files == known | {"dataset.json"}
    assert str(tmp_path) not in (target / "dataset.json").read_text()


@pytest.mark.parametrize("kind", LAYOUTS)
def test_a_transferal_set_has_every_picture_and_no_mask(kind: str, tmp_path: Path) -> None:
    target, manifest = imported(kind, tmp_path, share=0.3, transferal=True)
    assert len(load_pictures([target / "images"], 32)) == len(manifest.pictures) == TRANSFERAL[kind]
    assert {path.name for path in target.iterdir()} == {"images", "dataset.json"}
    assert manifest.transferal
    assert manifest.test_share == 0


def test_busi_unites_masks_leaves_out_the_normal_class_and_reports_twins(tmp_path: Path) -> None:
    _, manifest = imported("busi", tmp_path)
    entries = {entry.name: entry for entry in manifest.pictures}
    assert entries["benign_0001"].foreground == pytest.approx(BOX_SHARE, abs=1e-6)
    assert entries["benign_0002"].foreground == pytest.approx(BOX_SHARE + 60 / (40 * 32), abs=1e-6)  # and 6 × 10 pixels
    assert entries["benign_0001"].source == "benign/benign (1).png"
    assert [(part.why, part.count) for part in manifest.left_out] == [("of the class normal", 2)]
    assert manifest.near_duplicates == manifest.contradictions == [["benign_0001", "malignant_0002"]]


def test_twins_and_patients_stay_on_one_side(tmp_path: Path) -> None:
    for seed in range(8):
        target = tmp_path / str(seed)
        target.mkdir()
        _, manifest = imported("busi", target, share=0.4, seed=seed)
        sides = {entry.name: entry.split for entry in manifest.pictures}
        assert sides["benign_0001"] == sides["malignant_0002"]
        assert 3 <= list(sides.values()).count("test") <= 4
        target = tmp_path / f"nerve-{seed}"
        target.mkdir()
        _, manifest = imported("nerve", target, share=0.4, seed=seed)
        train, test = ({entry.group for entry in manifest.side(side)} for side in ("train", "test"))
        assert not train & test
        assert len(test) == 1  # 3 of 9 pictures; 2 subjects would be 6, more than 0.4 · 9


def test_the_split_lies_in_folders_of_its_own(tmp_path: Path) -> None:
    target, manifest = imported("busbra", tmp_path, share=0.25)
    train = load_annotated(target / "images", target / "masks", 32)
    test = load_annotated(target / "test/images", target / "test/masks", 32)
    assert (len(train), len(test)) == (6, 2)
    assert {entry.scanner for entry in manifest.pictures} == {"GE Logiq 7 @10-14MHz"}
    assert len({entry.group for entry in manifest.side("test")}) == 1
    assert manifest.grouped_by == "patient"


def test_the_parts_of_the_publishers_are_kept_in_the_manifest(tmp_path: Path) -> None:
    _, manifest = imported("isic2017", tmp_path)
    assert [entry.part for entry in manifest.pictures] == ["test"] * 3 + ["training"] * 3 + ["validation"] * 3


def test_isic_2019_knows_lesions_and_classes(tmp_path: Path) -> None:
    _, manifest = imported("isic2019", tmp_path)
    assert [entry.group for entry in manifest.pictures] == ["MSK4_0011169", "MSK4_0011169", None, "MSK4_0011169"]
    assert {entry.label for entry in manifest.pictures} == {"NV"}
    assert "anterior" not in manifest.model_dump_json()


def test_voc_takes_every_class_and_not_the_border(tmp_path: Path) -> None:
    target, manifest = imported("voc2012", tmp_path)
    mask = np.asarray(Image.open(target / "masks/2007_000000.png"))
    assert mask[:, -3:].max() == 0, f"index {VOID} is no object"
    assert (mask > 0).mean() == pytest.approx(BOX_SHARE)
    assert [entry.part for entry in manifest.pictures] == ["training", "validation"]
    assert manifest.left_out[0].count == 2


def test_ddti_outlines_are_filled_even_where_the_file_was_cut_off(tmp_path: Path) -> None:
    _, manifest = imported("ddti", tmp_path)
    assert [entry.name for entry in manifest.pictures] == ["1_1", "2_1", "2_2", "3_1"]
    for entry in manifest.pictures:
        assert entry.foreground == pytest.approx(BOX_SHARE, abs=1e-6)  # corners 8, 6 and 19, 17 belong to the outline
    assert [entry.group for entry in manifest.pictures] == ["case 1", "case 2", "case 2", "case 3"]
    assert [(part.why, part.count) for part in manifest.left_out] == [("without an outline", 1)]


def test_the_same_seed_gives_the_same_folder(tmp_path: Path) -> None:
    texts = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        target, _ = imported("nerve", tmp_path / name, share=0.4, seed=3)
        texts.add((target / "dataset.json").read_bytes())
    assert len(texts) == 1
