"""A student of several classes judged at a site: by each class that the site knows, and of each only where enough pictures show it."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load, save

from nakt_fed.data.folders import load_classes
from nakt_fed.exchange import Request
from nakt_fed.networks import build_network
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec
from nakt_fed.service import TeacherService
from nakt_fed.site.check import check_site
from nakt_fed.site.gate import Gate
from tests.nakt_fed.site.hospital import Coordinator, service_of, site_file, write_key, write_private
from tests.nakt_fed.site.test_evaluation import outcome, reference_dice, weights
from tests.tiny import SIZE, Gray, bright, dark

COUNT, SHOW_CYSTS = 6, 2
THREE = ["cyst", "lesion", "nodule"]
UNET = {"network": "unet", "width": 2, "classes": 3}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures. Each shows a lesion, and around it a nodule; the first two show a cyst."""
    folder = write_private(tmp_path_factory.mktemp("ward"), COUNT)
    for label in THREE:
        shutil.copytree(folder / "masks", folder / label)
    for number, path in enumerate(sorted((folder / "masks").iterdir())):
        mask = np.asarray(Image.open(path))
        Image.fromarray(255 - mask).save(folder / "nodule" / path.name)
        Image.fromarray(mask if number < SHOW_CYSTS else np.zeros_like(mask)).save(folder / "cyst" / path.name)
    return folder


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_key(tmp_path)
    return tmp_path


def lesions_and_nodules(pictures: Gray) -> Any:
    return np.stack([dark(pictures), bright(pictures)], axis=1)


def gate_of(home: Path, private: Path, classes: Sequence[str], teacher: Any, **policy: Any) -> Gate:
    file = site_file(home, private, classes=classes, **{"evaluate_student": True, "min_evaluated": COUNT, **policy})
    return Gate(file, service_of(file, teacher))


def judge(home: Path, blob: bytes, classes: Any = THREE, network: Any = UNET) -> Request:
    return Coordinator(home).judge(blob, network, classes=classes)


@pytest.mark.parametrize(
    ("classes", "teacher"), [(["lesion", "nodule"], lesions_and_nodules), (["lesion"], dark)], ids=["two", "one"]
)
def test_each_class_that_the_site_knows_is_told(home: Path, private: Path, classes: list[str], teacher: Any) -> None:
    blob = weights(spec=UNET)
    reply = gate_of(home, private, classes, teacher).handle(judge(home, blob))
    assert reply.ok, reply.meta
    assert (reply.meta.keys(), list(reply.meta["classes"])) == ({"classes"}, classes)
    model = build_network(NetworkSpec(**UNET))
    model.load_state_dict(load(blob))
    for label in classes:
        pictures = load_classes(private / "images", private / label, SIZE)
        own = 255 - pictures.images if label == "lesion" else pictures.images
        answers = {"student": soft_masks(model, pictures.images, classes=3)[:, THREE.index(label)], "teacher": own}
        told = reply.meta["classes"][label]
        assert told.pop("n") == COUNT
        values = {name: reference_dice(masks, pictures.masks) for name, masks in answers.items()}
        assert told == {k: {"mean": round(v.mean(), 4), "std": round(v.std(), 4)} for k, v in values.items()}
        assert 0 < told["student"]["mean"] < 1


def test_a_class_that_few_pictures_show_is_not_told(home: Path, private: Path) -> None:
    """The mean over all six would say how the student does on the two."""
    two, known = lambda pictures: np.stack([dark(pictures)] * 2, axis=1), ["cyst", "lesion"]
    blob = weights(spec=UNET)
    told = gate_of(home, private, known, two, min_evaluated=SHOW_CYSTS + 1).handle(judge(home, blob)).meta["classes"]
    assert told["cyst"] == {"refused": "too_few_images"}
    assert told["lesion"]["n"] == COUNT
    enough = gate_of(home / "b", private, known, two, min_evaluated=SHOW_CYSTS)
    told = enough.inner.handle(Request("evaluate", {"network": UNET, "classes": THREE}, blob)).meta
    assert told["classes"]["cyst"]["n"] == COUNT


def test_where_no_class_may_be_told_the_site_refuses(home: Path, private: Path) -> None:
    one = home / "one"
    one.mkdir()
    shutil.copytree(private / "images", one / "images")
    shutil.copytree(private / "cyst", one / "masks")
    reply = gate_of(home, one, ["cyst"], dark).handle(judge(home, weights(spec=UNET)))
    assert outcome(reply) == "too_few_images"
    assert not any(letter.isdigit() for letter in reply.meta["message"])


def test_the_gate_holds_the_minimum_of_each_class(home: Path, private: Path) -> None:
    """A service that was started with another minimum."""
    file = site_file(home, private, classes=["lesion", "nodule"], evaluate_student=True, min_evaluated=COUNT + 1)
    service = TeacherService(file.spec(), file.site.folder, image_size=SIZE, seed=0, threads=1, min_evaluated=2)
    service.__dict__["teacher"] = lesions_and_nodules
    assert outcome(Gate(file, service).handle(judge(home, weights(spec=UNET)))) == "too_few_images"


@pytest.mark.parametrize(
    "classes",
    [None, [], "lesion", ["lesion"], ["lesion", "nodule"], ["lesion", "cyst", "nodule"], ["a", "b", "c"],
     ["lesion", "nodule", "nodule"], ["lesion", "nodule", 3], {"lesion": 1}, [["lesion"]]],
)  # fmt: skip
def test_a_student_whose_classes_are_not_this_sites_is_refused(home: Path, private: Path, classes: Any) -> None:
    gate = gate_of(home, private, ["lesion", "nodule"], lesions_and_nodules)
    assert outcome(gate.handle(judge(home, weights(spec=UNET), classes))) == "bad_answer"


def test_a_site_without_names_judges_no_student_of_several_classes(home: Path, private: Path) -> None:
    assert outcome(gate_of(home, private, [], dark).handle(judge(home, weights(spec=UNET)))) == "bad_answer"


def test_a_student_that_answers_nan_in_any_class_is_refused(home: Path, private: Path) -> None:
    tensors = load(weights(spec=UNET))
    [bias] = [tensor for tensor in tensors.values() if tensor.shape == (3,)]
    bias[0] = float("nan")  # of the cyst
    gate = gate_of(home, private, ["cyst", "lesion"], lesions_and_nodules)
    assert outcome(gate.handle(judge(home, save(tensors)))) == "bad_answer"


def test_the_site_check_says_how_many_pictures_show_each_class(home: Path, private: Path) -> None:
    file = site_file(home, private, classes=["cyst", "lesion"], evaluate_student=True, min_evaluated=3)
    texts = [each.text for each in check_site(file, offline=True) if each.name in ("pictures", "policy")]
    assert texts[0] == "6 private pictures with masks; cyst in 2, lesion in 6"
    assert any("for each class that at least 3 of these pictures show" in text for text in texts)
