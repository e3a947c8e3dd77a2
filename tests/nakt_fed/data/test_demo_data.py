import csv
import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import nakt_fed
from nakt_fed.data.folders import load_annotated, load_pictures
from nakt_fed.data.pictures import content_hash, read_gray
from nakt_fed.study.file import load_study

DEMO = Path(nakt_fed.__file__).parent / "demo"
DATA = DEMO / "data"
PROJECT = DEMO.parents[1]
SOURCES = PROJECT.parent / "shared/data"
MAY_BE_SHIPPED = {"breast-busbra-logiq7", "breast-busbra-logiq5", "breast-busi", "nerve-usgra", "skin-isic2017"}
PICTURES = sorted(DATA.rglob("images/*.jpg"))


@pytest.fixture(scope="module")
def sources() -> list[dict[str, str]]:
    with (DATA / "sources.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_it_is_at_most_4_megabytes():
    assert sum(path.stat().st_size for path in DEMO.rglob("*") if path.is_file()) <= 4_000_000


def test_every_shipped_file_is_accounted_for(sources):
    shipped = {path.relative_to(DATA).as_posix() for path in DATA.glob("*/**/*") if path.is_file()}
    assert shipped == {row["file"] for row in sources}
    for row in sources:
        assert hashlib.sha256((DATA / row["file"]).read_bytes()).hexdigest() == row["sha256"]


def test_nothing_comes_from_a_data_set_that_may_not_be_shipped(sources):
    assert {row["dataset"] for row in sources} == MAY_BE_SHIPPED
    assert not [path for path in DEMO.rglob("*") if "ddti" in path.name.lower() or "voc" in path.name.lower()]


def test_no_patient_or_group_is_here_twice(sources):
    pictures = [row for row in sources if "/images/" in row["file"]]
    dataset = {name: name.replace("-logiq7", "").replace("-logiq5", "") for name in MAY_BE_SHIPPED}
    groups = Counter((dataset[row["dataset"]], row["group"]) for row in pictures)
    assert len(groups) == len(pictures) == 180 + 180 + 240 + 101 + 69


@pytest.mark.parametrize("size", [None, 64])
def test_no_two_pictures_have_the_same_pixels(size):
    if size is None:
        hashes = {content_hash(read_gray(path)) for path in PICTURES}
    else:
        hashes = {
            content_hash(image) for image in load_pictures(sorted({path.parent for path in PICTURES}), size).images
        }
    assert len(hashes) == len(PICTURES)


def test_licence_texts_and_attribution_are_there():
    assert "Permission is hereby granted" in (DATA / "LICENSE-BUS-BRA.txt").read_text(encoding="utf-8")
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for needed in ("10.1002/mp.16812", "10.1016/j.dib.2019.104863", "CC BY 4.0", "tmkand/usgra-seg", "1710.05006"):
        assert needed in readme


def test_the_study_can_be_loaded_with_all_its_pictures():
    study = load_study(DEMO / "study.toml")
    assert len({(site.teacher.network, site.teacher.encoder) for site in study.site}) == 3
    for site in study.site:
        assert site.masks is not None
        pictures = load_annotated(site.images, site.masks, 32)
        assert len(pictures) >= 100
        assert pictures.masks.any(axis=(1, 2)).all()
    transferal = load_pictures(study.transferal.images, 32)
    assert Counter(name.split("/")[0] for name in transferal.ids) == {"nerve": 101, "skin": 69}
    assert transferal.images.std(axis=(1, 2)).min() > 5  # none is blank


def test_longest_side_is_128():
    shapes = np.array([read_gray(path).shape for path in PICTURES])
    assert (shapes.max(axis=1) == 128).all()


@pytest.mark.slow
@pytest.mark.skipif(not SOURCES.exists(), reason="the data sets that the demo data is made from are not here")
def test_the_script_makes_the_same_files_again(tmp_path):
    script = PROJECT / "scripts/make_demo_data.py"
    subprocess.run([sys.executable, script, SOURCES, "--target", tmp_path], check=True)
    assert (tmp_path / "sources.csv").read_bytes() == (DATA / "sources.csv").read_bytes()
    assert (tmp_path / "LICENSE-BUS-BRA.txt").read_bytes() == (DATA / "LICENSE-BUS-BRA.txt").read_bytes()
