"""Train, predict and evaluate on their own, as functions and as commands."""

import csv
import inspect
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nakt_fed import parts
from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.folders import load_annotated
from nakt_fed.errors import CheckpointError, DataError, RunError, StudyError
from nakt_fed.metrics import dice, iou
from nakt_fed.parts import CONTOUR, evaluate_folder, predict_folder, train_network
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.training_state import EpochLog
from tests.command import nakt

SPEC = NetworkSpec(network="unet", width=2)
RECIPE = Recipe(epochs=2, batch_size=4, validation=0.2)
OWN = """
import torch
from torch import nn

class Bright(nn.Module):
    '''Sees a target where the picture is bright: logit 20 · input, for inputs of -1 to 1.'''

    def __init__(self, in_channels=1, classes=1):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(20.0))

    def forward(self, images):
        return self.slope * images
"""
BRIGHT = NetworkSpec(network="bright_network:Bright")


@pytest.fixture(scope="module")
def trained(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    train_network(folders / "ann" / "images", folders / "ann" / "masks", out, SPEC, RECIPE, image_size=32)
    return out


@pytest.fixture
def bright(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkpoint of the user's own network, whose answers are known; pictures are 32×32 for it."""
    from nakt_fed.networks import build_network

    (tmp_path / "bright_network.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    save_checkpoint(tmp_path / "bright.safetensors", build_network(BRIGHT), BRIGHT, image_size=32)
    return tmp_path / "bright.safetensors"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A wide PNG with a bright block at its left edge, and a tall JPEG that is bright all over."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    wide = np.full((40, 80), 30, np.uint8)
    wide[10:30, :40] = 220
    Image.fromarray(wide).save(folder / "a wide.png")
    Image.new("RGB", (48, 64), (250, 250, 250)).save(folder / "tall.JPG")
    return folder


def open_(path: Path) -> Any:
    return np.asarray(Image.open(path))


@pytest.mark.parametrize("name", ["train_network", "load_predictor", "predict_folder", "evaluate_folder"])
def test_every_part_is_typed_and_documented(name: str) -> None:
    function = getattr(parts, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(parameter.annotation is not inspect.Parameter.empty for parameter in signature.parameters.values())
    assert "Raises:" in function.__doc__


def test_training_leaves_a_checkpoint_that_says_what_it_is(trained: Path) -> None:
    _, info = load_checkpoint(trained / "teacher.safetensors", expect=SPEC)
    assert info["provenance"] == {"n_images": 6, "image_size": 32, "epochs": 2, "seed": 0}
    assert len((trained / "history.csv").read_text().splitlines()) == 3


def test_a_finished_training_is_found_again(folders: Path, trained: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(trained, tmp_path / "again"))
    rows: list[EpochLog] = []
    pair = folders / "ann" / "images", folders / "ann" / "masks"
    history = train_network(*pair, again, SPEC, RECIPE, image_size=32, on_epoch=rows.append)
    assert (len(history), rows) == (2, [])
    same = [(folder / "teacher.safetensors").read_bytes() for folder in (trained, again)]
    assert same[0] == same[1]
    for spec, recipe in ((NetworkSpec(network="unet", width=3), RECIPE), (SPEC, Recipe(epochs=3, batch_size=4))):
        with pytest.raises(RunError, match="holds a training of another network, with another recipe or seed"):
            train_network(*pair, again, spec, recipe, image_size=32)
    with pytest.raises(RunError, match="take another folder"):
        train_network(*pair, again, SPEC, RECIPE, image_size=32, seed=1)


def test_nothing_can_be_learned(folders: Path, tmp_path: Path) -> None:
    place = Path(shutil.copytree(folders / "few", tmp_path / "few"))
    for mask in (place / "masks").iterdir():
        Image.fromarray(np.zeros((32, 32), np.uint8)).save(mask)
    with pytest.raises(DataError, match="all masks for training are empty"):
        train_network(place / "images", place / "masks", tmp_path / "out", SPEC, RECIPE, image_size=32)
    for number in (1, 2, 3):
        (place / "images" / f"000{number}.png").unlink()
    with pytest.raises(DataError, match="at least 2 pictures, 1 left"):
        train_network(place / "images", place / "masks", tmp_path / "out", SPEC, RECIPE, image_size=32)
    pair = folders / "few" / "images", folders / "few" / "masks"
    with pytest.raises(StudyError, match=r"network pan .* cannot work on batches of 2 at 32×32"):
        train_network(*pair, tmp_path / "out", NetworkSpec(network="pan", encoder="resnet18"), RECIPE, image_size=32)
    assert not (tmp_path / "out").exists()


def test_masks_have_the_pictures_own_names_and_sizes(bright: Path, pictures: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = predict_folder(
        bright, pictures, tmp_path / "out", network=BRIGHT, on_picture=lambda done, total: seen.append((done, total))
    )
    assert [path.name for path in files] == ["a wide.png", "tall.png"]
    assert seen == [(1, 2), (2, 2)]
    wide, tall = (open_(path) for path in files)
    assert (wide.dtype, wide.shape, tall.shape) == (np.uint8, (40, 80), (64, 48))
    assert set(np.unique(wide)) == {0, 255}
    assert tall.min() == 255
    expected = np.zeros((40, 80), bool)
    expected[10:30, :40] = True
    assert dice(wide[None] > 0, expected[None])[0] > 0.93, "it was answered at 32×32 and stretched back"


def test_soft_masks_are_probabilities(bright: Path, pictures: Path, tmp_path: Path) -> None:
    [wide, tall] = predict_folder(bright, pictures, tmp_path / "out", style="soft", network=BRIGHT)
    # sigmoid(20 · (2 · 220 / 255 − 1)) and sigmoid(20 · (2 · 30 / 255 − 1)), far from the block's edge
    assert open_(wide)[20, 10] == 255
    assert open_(wide)[5, 70] == 0
    middle = open_(wide)[20, 36:44]
    assert np.all(np.diff(middle.astype(int)) <= 0), "from target to background"
    assert 0 < middle[4] < 255
    assert open_(tall).min() == 255


def test_an_overlay_is_the_picture_with_the_contour(bright: Path, pictures: Path, tmp_path: Path) -> None:
    [wide, tall] = predict_folder(bright, pictures, tmp_path / "out", style="overlay", network=BRIGHT)
    [mask, _] = (open_(path) > 0 for path in predict_folder(bright, pictures, tmp_path / "masks", network=BRIGHT))
    drawn, gray = open_(wide), open_(pictures / "a wide.png")
    contour = np.all(drawn == CONTOUR, axis=-1)
    assert np.array_equal(drawn[~contour], np.stack([gray[~contour]] * 3, axis=-1))
    assert not np.any(contour & ~mask), "the contour lies inside the mask"
    assert contour[15:25, 0].all(), "and closes at the picture's edge"
    assert not contour[15:25, 5:35].any()
    assert np.all(open_(tall)[1:-1, 1:-1] > 240), "a mask of everything has its contour on the edge"


def test_predict_refuses_to_write_over_anything(bright: Path, pictures: Path, tmp_path: Path) -> None:
    for out in (pictures, pictures / ".." / "pictures"):
        with pytest.raises(DataError, match="holds the pictures themselves; give another folder"):
            predict_folder(bright, pictures, out, network=BRIGHT)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "tall.png").write_bytes(b"somebody's")
    with pytest.raises(DataError, match=r"tall\.png is there already"):
        predict_folder(bright, pictures, tmp_path / "out", network=BRIGHT)
    assert (tmp_path / "out" / "tall.png").read_bytes() == b"somebody's"
    assert len(predict_folder(bright, pictures, tmp_path / "out", network=BRIGHT, overwrite=True)) == 2


def test_code_of_ones_own_runs_only_when_it_is_named(bright: Path, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="asks for code of its own"):
        predict_folder(bright, pictures, tmp_path / "out")


def test_a_checkpoint_without_its_size(tmp_path: Path, pictures: Path, trained: Path) -> None:
    model, _ = load_checkpoint(trained / "teacher.safetensors")
    save_checkpoint(tmp_path / "sizeless.safetensors", model, SPEC)
    with pytest.raises(CheckpointError, match=r"does not say at which image_size .* save_checkpoint"):
        predict_folder(tmp_path / "sizeless.safetensors", pictures, tmp_path / "out")


def test_evaluation_equals_direct_computation(folders: Path, trained: Path) -> None:
    images, masks = folders / "bob" / "images", folders / "bob" / "masks"
    table = evaluate_folder(trained / "teacher.safetensors", images, masks, distances=False)
    model, _ = load_checkpoint(trained / "teacher.safetensors")
    truth = load_annotated(images, masks, 32)
    answers = soft_masks(model, truth.images)
    assert list(table["id"]) == truth.ids
    assert np.array_equal(table["dice"], dice(answers > 127, truth.masks > 127))
    assert np.array_equal(table["iou"], iou(answers > 127, truth.masks > 127))
    overlap = np.sum((answers > 127) & (truth.masks > 127), axis=(1, 2))
    total = np.sum(answers > 127, axis=(1, 2)) + np.sum(truth.masks > 127, axis=(1, 2))
    assert np.allclose(table["dice"], 2 * overlap / total)
    assert set(table) == {"id", "dice", "iou"}


def test_the_commands(folders: Path, bright: Path, tmp_path: Path) -> None:
    """train, predict and evaluate; the network that sees bright pixels is measured on masks of two pictures."""
    options = ["--width", 2, "--image-size", 32, "--epochs", 2, "--batch-size", 4]
    pair = [folders / "few" / "images", folders / "few" / "masks"]
    outcome = nakt("train", *pair, tmp_path / "new", *map(str, options))
    assert (outcome.code, outcome.err) == (0, "")
    first, second, last = outcome.out.splitlines()
    assert first.startswith("  unet  epoch 1/2  loss ")
    assert first.endswith(" left")
    assert second.startswith("  unet  epoch 2/2  loss ")
    assert last == f"checkpoint: {tmp_path / 'new' / 'teacher.safetensors'}"

    outcome = nakt(
        "predict", tmp_path / "new" / "teacher.safetensors", folders / "organ" / "images", tmp_path / "masks"
    )
    assert (outcome.code, outcome.out) == (0, f"7 pictures answered: {tmp_path / 'masks'}\n")

    data = tmp_path / "data"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
    block = np.zeros((32, 32), np.uint8)
    block[8:16, 8:16] = 255
    for name, picture, mask in (("hit", block, block), ("miss", block * 0, block)):
        Image.fromarray(picture).save(data / "images" / f"{name}.png")
        Image.fromarray(mask).save(data / "masks" / f"{name}.png")
    table = tmp_path / "table.csv"
    arguments = [bright, data / "images", data / "masks", "--network", BRIGHT.network, "--csv", table]
    outcome = nakt("evaluate", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    missing = "   (1 picture without a distance: one of the two masks is empty)"
    assert outcome.out.splitlines() == [
        "Dice   50.00 ± 50.00 %   n = 2",
        "IoU    50.00 ± 50.00 %   n = 2",
        f"HD95    0.00 ± 0.00 px  n = 1{missing}",
        f"ASSD    0.00 ± 0.00 px  n = 1{missing}",
    ]
    with table.open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            ["id", "dice", "iou", "hd95", "assd"],
            ["data/hit", "1.0", "1.0", "0.0", "0.0"],
            ["data/miss", "0.0", "0.0", "", ""],
        ]


def test_a_stopped_training_says_how_to_go_on(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    arguments = ["train", folders / "few" / "images", folders / "few" / "masks", tmp_path / "out", "--width", "2"]
    with monkeypatch.context() as patch:
        patch.setattr("nakt_fed.parts.train.fit", stopped)
        outcome = nakt(*arguments, "--image-size", "32")
    assert outcome.code == 130
    assert outcome.err.strip() == "stopped; the same command goes on with the next epoch"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--image-size", "33"], "image_size: must be a multiple of 32"),
        (["--epochs", "0"], "epochs: Input should be greater than or equal to 1 (got 0)"),
        (["--width", "1"], "width: Input should be greater than or equal to 2"),
        (["--network", "zzz"], "unknown network 'zzz'; known here: "),
        (["--network", "unett"], "unknown network 'unett'; did you mean 'unet' or "),
    ],
)
def test_what_cannot_be_trained(folders: Path, tmp_path: Path, options: list[str], words: str) -> None:
    outcome = nakt("train", folders / "few" / "images", folders / "few" / "masks", tmp_path / "out", *options)
    assert outcome.code == 1
    assert words in outcome.err
    assert "'unet' or 'unet'" not in outcome.err


def test_report_of_what_is_no_run(tmp_path: Path) -> None:
    outcome = nakt("report", tmp_path)
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {tmp_path} ")


def test_a_table_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    outcome = nakt("evaluate", "none.safetensors", tmp_path, tmp_path, "--csv", tmp_path)
    assert outcome.code == 2
    assert "is a directory" in outcome.err


@pytest.mark.parametrize(
    "words",
    [
        ["train", "a", "b", "c", "--seed", "-1"],
        ["data", "import", "busi", "a", "b", "--test-share", "1"],
        ["data", "import", "busi", "a", "b", "--seed", "-1"],
        ["compare", "rows.json", "--seed", "-1"],
    ],
)
def test_numbers_that_are_out_of_their_range(words: list[str]) -> None:
    outcome = nakt(*words)
    assert outcome.code == 2
    assert "is not in the range" in outcome.err
