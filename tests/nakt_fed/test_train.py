import csv
import hashlib
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from nakt_fed import precision, train, training_state
from nakt_fed.data.folders import PictureSet
from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.errors import DataError, RunError
from nakt_fed.metrics import dice
from nakt_fed.predict import probabilities
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.teacher import fresh_network
from nakt_fed.team import Team
from nakt_fed.train import decay, fit, learning_rate
from nakt_fed.training_state import EpochLog

PICTURES = synthetic_set(10, 32, seed=4)
TRAIN, VALIDATION = PICTURES.subset(range(7)), PICTURES.subset(range(7, 10))


def recipe(**keys: Any) -> Recipe:
    return Recipe(**{"epochs": 3, "batch_size": 3, "learning_rate": 0.01, **keys})


def fresh() -> nn.Module:
    return fresh_network(NetworkSpec(network="unet", width=2), seed=1)


def run(folder: Path, with_recipe: Recipe | None = None, **keys: Any) -> tuple[str, list[EpochLog]]:
    """A whole training from a fresh network: hash of the weights it leaves, and its history."""
    model = fresh()
    history = fit(
        model, TRAIN, with_recipe or recipe(), **{"folder": folder, "seed": 5, "validation": VALIDATION, **keys}
    )
    return weights_hash(model), history


def weights_hash(model: nn.Module) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values())).hexdigest()


def numbers(history: list[EpochLog]) -> list[tuple[object, ...]]:
    """All but the seconds."""
    return [(log.epoch, log.loss, log.validation_dice, log.learning_rate) for log in history]


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(1)
    first, history = run(tmp_path / "a")
    torch.manual_seed(2)  # what others drew before must not matter
    torch.rand(3)
    second, again = run(tmp_path / "b")
    assert first == second
    assert numbers(history) == numbers(again)
    assert run(tmp_path / "c", seed=6)[0] != first


class Killed(BaseException):
    pass


def kill_at_epoch(number: int) -> Callable[[EpochLog], None]:
    def killer(log: EpochLog) -> None:
        if log.epoch == number:
            raise Killed

    return killer


RECIPES = [
    recipe(schedule="constant", keep="last"),
    recipe(schedule="cosine", keep="best"),
    recipe(schedule="cosine", keep="last", ema=0.9, augment="flip"),
    recipe(schedule="constant", keep="best", ema=0.5, augment="none"),
]


@pytest.mark.slow
@pytest.mark.parametrize("of", RECIPES, ids=lambda r: f"{r.schedule}-{r.keep}-ema{r.ema}")
def test_killed_after_any_epoch_and_started_again(tmp_path: Path, of: Recipe) -> None:
    """After each of the three epochs once; the third is the last."""
    undisturbed, history = run(tmp_path / "a", of)
    for epoch in (1, 2, 3):
        with pytest.raises(Killed):
            run(tmp_path / "b", of, on_epoch=kill_at_epoch(epoch))
    seen: list[int] = []
    resumed, again = run(tmp_path / "b", of, on_epoch=lambda log: seen.append(log.epoch))
    assert seen == [], "no epoch is done twice"
    assert resumed == undisturbed
    assert numbers(again) == numbers(history)
    assert table(tmp_path / "b", "loss") == table(tmp_path / "a", "loss")


def table(folder: Path, column: str) -> list[str]:
    with (folder / "history.csv").open() as file:
        return [row[column] for row in csv.DictReader(file)]


@pytest.mark.parametrize("where", ["augment", "last.pt", "best.pt", "history.csv"])
def test_killed_within_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """In the middle of a batch, and while each of the files is written."""
    undisturbed, _ = run(tmp_path / "a")
    calls = 0

    def counted(real: Callable[..., Any], hit: Callable[..., bool], at: int) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            nonlocal calls
            calls += hit(*args)
            if calls == at:
                calls += 1
                raise Killed
            return real(*args)

        return wrapper

    with monkeypatch.context() as patch:
        if where == "augment":
            patch.setattr(train, "augment", counted(train.augment, lambda *_: True, at=4))
        elif where == "history.csv":
            patch.setattr(training_state, "write_history", counted(training_state.write_history, lambda *_: True, at=2))
        else:
            patch.setattr(
                training_state, "_save", counted(training_state._save, lambda _, path: path.name == where, at=1)
            )
        with pytest.raises(Killed):
            run(tmp_path / "b")
    assert run(tmp_path / "b")[0] == undisturbed


def test_dropout_too_is_the_same_after_a_kill(tmp_path: Path) -> None:
    """What it draws comes from the epoch's seed, not from where the generator happens to be."""

    def trained(folder: Path, on_epoch: Callable[[EpochLog], None] | None = None) -> str:
        model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Dropout(0.5), nn.Conv2d(4, 1, 1))
        for parameter in model.parameters():
            nn.init.constant_(parameter, 0.1)
        fit(model, TRAIN, recipe(epochs=2), folder=folder, seed=5, on_epoch=on_epoch)
        return weights_hash(model)

    undisturbed = trained(tmp_path / "a")
    with pytest.raises(Killed):
        trained(tmp_path / "b", kill_at_epoch(1))
    torch.rand(7)
    assert trained(tmp_path / "b") == undisturbed


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, history = run(tmp_path)
    second, again = run(tmp_path, on_epoch=kill_at_epoch(1))
    assert first == second
    assert history == again


def test_a_finished_training_keeps_no_optimizer(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, on_epoch=kill_at_epoch(2))
    assert "optimizer" in torch.load(tmp_path / "last.pt", weights_only=True)
    run(tmp_path)
    assert "optimizer" not in torch.load(tmp_path / "last.pt", weights_only=True)


REFUSED = (
    r"holds a training of another network, with another recipe or seed, or on other pictures; .* delete its last.pt"
)


@pytest.mark.parametrize("other", [{"with_recipe": recipe(epochs=4)}, {"with_recipe": recipe(ema=0.5)}, {"seed": 6}])
def test_another_training_in_the_folder_is_refused(tmp_path: Path, other: dict[str, Any]) -> None:
    run(tmp_path)
    with pytest.raises(RunError, match=REFUSED):
        run(tmp_path, **other)


def test_other_pictures_in_the_folder_are_refused(tmp_path: Path) -> None:
    run(tmp_path)
    with pytest.raises(RunError, match=REFUSED):
        fit(fresh(), PICTURES.subset(range(1, 8)), recipe(), folder=tmp_path, seed=5)


def test_another_network_in_the_folder_is_refused(tmp_path: Path) -> None:
    run(tmp_path)
    wider = fresh_network(NetworkSpec(network="unet", width=3), seed=1)
    with pytest.raises(RunError, match=REFUSED):
        fit(wider, TRAIN, recipe(), folder=tmp_path, seed=5, validation=VALIDATION)


def scripted(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> list[str]:
    """Validation Dice as given, epoch by epoch; returns the list that fills with the weights of each epoch."""
    seen: list[str] = []

    def validate(model: nn.Module, validation: object) -> float:
        seen.append(weights_hash(model))
        return scores[len(seen) - 1]

    monkeypatch.setattr(train, "_validate", validate)
    return seen


@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 4)])
@pytest.mark.parametrize("ema", [0.0, 0.5])
def test_the_kept_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: str, epoch: int, ema: float) -> None:
    """Epochs 2 and 3 are equally good: the earlier one counts. With a running average, it is the average that is kept."""
    seen = scripted(monkeypatch, [0.1, 0.7, 0.7, 0.2])
    kept, history = run(tmp_path, recipe(epochs=4, keep=keep, ema=ema))
    assert kept == seen[epoch - 1]
    assert len(set(seen)) == 4
    assert [log.validation_dice for log in history] == [0.1, 0.7, 0.7, 0.2]


def test_a_best_of_an_earlier_training_is_not_taken(tmp_path: Path) -> None:
    """As the refusal advises, last.pt was deleted; the new training has no validation and so no best of its own."""
    run(tmp_path)
    (tmp_path / "last.pt").unlink()
    mixed, _ = run(tmp_path, recipe(epochs=1, keep="best"), validation=None)
    alone, _ = run(tmp_path / "alone", recipe(epochs=1, keep="best"), validation=None)
    assert mixed == alone


def test_the_running_average_follows_the_weights() -> None:
    """avg ← 0.9 · avg + 0.1 · weights; the batch statistics are copied."""
    slow, fast = nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    with torch.no_grad():
        slow.weight.fill_(1.0)
        fast.weight.fill_(2.0)
        fast.running_mean.fill_(5.0)  # type: ignore[union-attr]
    train._follow(slow, fast, 0.9)
    assert slow.weight.tolist() == pytest.approx([1.1])
    assert slow.running_mean.tolist() == [5.0]  # type: ignore[union-attr]


def test_the_running_average_is_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Added up from the weights after each of the 2 · 2 steps, at first with less memory; the training itself goes on with the weights."""
    steps: list[torch.Tensor] = []
    real = train._step

    def flat(model: nn.Module) -> torch.Tensor:
        return torch.cat([parameter.detach().double().flatten() for parameter in model.parameters()])

    def step(wrapped: nn.Module, *rest: Any) -> torch.Tensor:
        loss = real(wrapped, *rest)
        steps.append(flat(wrapped))
        return loss

    monkeypatch.setattr(train, "_step", step)
    model = fresh()
    expected = flat(model)
    fit(model, TRAIN, recipe(epochs=2, ema=0.25, keep="last"), folder=tmp_path, seed=5)
    assert len(steps) == 4
    for weights, kept in zip(steps, (1 / 10, 2 / 11, 0.25, 0.25), strict=True):
        expected = kept * expected + (1 - kept) * weights
    torch.testing.assert_close(flat(model), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(flat(model), steps[-1], atol=1e-4)


def test_a_long_training_remembers_as_long_as_the_recipe_says() -> None:
    assert [decay(recipe(ema=0.995), step) for step in (0, 8, 1789, 1790, 5000)] == pytest.approx(
        [0.1, 0.5, 1790 / 1799, 0.995, 0.995]
    )


def test_mixed_precision_learns_alike_and_goes_on_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 has 8 bits of mantissa; weights stay float32 and are laid out like those of any other training."""
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    exact, history = run(tmp_path / "exact")
    mixed, rounded = run(tmp_path / "mixed", recipe(precision="mixed"))
    assert exact != mixed
    assert [log.loss for log in rounded] == pytest.approx([log.loss for log in history], rel=0.05)
    with pytest.raises(Killed):
        run(tmp_path / "killed", recipe(precision="mixed"), on_epoch=kill_at_epoch(2))
    model = fresh()
    fit(model, TRAIN, recipe(precision="mixed"), folder=tmp_path / "killed", seed=5, validation=VALIDATION)
    assert weights_hash(model) == mixed
    assert all(value.dtype == torch.float32 and value.is_contiguous() for value in model.parameters())


def test_learning_rates() -> None:
    """Half a cosine: whole, 3/4 after a third (cos 60° = 1/2), half at half, 1/4 after two thirds."""
    cosine = recipe(learning_rate=0.4, schedule="cosine")
    assert [learning_rate(cosine, step, 12) for step in (0, 4, 6, 8)] == pytest.approx([0.4, 0.3, 0.2, 0.1])
    assert learning_rate(recipe(learning_rate=0.4, schedule="constant"), 11, 12) == 0.4


def test_history_file(tmp_path: Path) -> None:
    """2 batches per epoch (7 pictures in batches of about 3), so 6 steps; each row tells the rate of its last step."""
    _, history = run(tmp_path)
    rates = [0.005 * (1 + math.cos(math.pi * step / 6)) for step in (1, 3, 5)]
    assert [float(rate) for rate in table(tmp_path, "learning_rate")] == pytest.approx(rates)
    assert [float(loss) for loss in table(tmp_path, "loss")] == [log.loss for log in history]
    assert table(tmp_path, "epoch") == ["1", "2", "3"]
    assert all(float(seconds) > 0 for seconds in table(tmp_path, "seconds"))


def test_without_validation_there_is_an_empty_cell(tmp_path: Path) -> None:
    _, history = run(tmp_path, validation=None)
    assert [log.validation_dice for log in history] == [None] * 3
    assert table(tmp_path, "validation_dice") == [""] * 3


def test_validation_dice_is_that_of_the_weights_that_are_left(tmp_path: Path) -> None:
    model = fresh()
    [log] = fit(model, TRAIN, recipe(epochs=1), folder=tmp_path, seed=5, validation=VALIDATION)
    expected = dice(probabilities(model, VALIDATION.images) > 0.5, VALIDATION.masks > 0).mean()
    assert log.validation_dice == pytest.approx(expected)


def test_it_learns(tmp_path: Path) -> None:
    """Where the picture itself is the mask, the loss falls to a part of what it was."""
    discs = PictureSet(list("abcdefgh"), *[synthetic_set(8, 32, seed=9).masks] * 2)
    model = fresh_network(NetworkSpec(network="unet", width=4), seed=1)
    quick = recipe(epochs=5, batch_size=2, learning_rate=0.1, schedule="constant", augment="none")
    history = fit(model, discs, quick, folder=tmp_path, seed=0)
    assert history[-1].loss < 0.3 * history[0].loss


def test_soft_targets_stay_soft(tmp_path: Path) -> None:
    """A mask of 51 everywhere asks for p = 0.2 (a little more for the Dice): cut at a threshold, it would ask for 0 or 1."""
    pictures = PictureSet(list("abcd"), PICTURES.images[:4], np.full((4, 32, 32), 51, np.uint8))
    model = fresh()
    quick = recipe(epochs=25, batch_size=4, learning_rate=0.1, schedule="constant", augment="none")
    fit(model, pictures, quick, folder=tmp_path, seed=0)
    assert 0.15 < probabilities(model, pictures.images).mean() < 0.45


def test_an_infinite_loss_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "dice_bce", lambda logits, masks, overlap: logits.mean() * torch.nan)
    with pytest.raises(RunError, match=r"the loss is nan in epoch 1; lower learning_rate \(now 0.01\)"):
        run(tmp_path)
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize(
    "pictures", [TRAIN.subset([0]), PictureSet(["a", "b"], TRAIN.images[:2])], ids=["one", "no masks"]
)
def test_too_little_to_learn_from(tmp_path: Path, pictures: PictureSet) -> None:
    with pytest.raises(DataError, match="at least 2 pictures with masks"):
        fit(fresh(), pictures, recipe(), folder=tmp_path, seed=0)


def test_only_the_leader_writes(tmp_path: Path) -> None:
    model = fresh()
    history = fit(
        model, TRAIN, recipe(epochs=1), folder=tmp_path, seed=5, validation=VALIDATION, team=Team(rank=1, size=2)
    )
    assert list(tmp_path.iterdir()) == []
    assert [log.validation_dice for log in history] == [None]


def test_a_team_of_two_covers_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each worker's first batch of epoch 1 is half of the lone worker's; together they hold every picture of it."""
    seen: dict[str, list[bytes]] = {}

    def recorded(name: str) -> None:
        seen[name] = []
        real = train.feed

        def feed(*args: Any) -> Any:
            for images, masks in real(*args):
                seen[name] += [image.numpy().tobytes() for image in images]
                yield images, masks

        with monkeypatch.context() as patch:
            patch.setattr(train, "feed", feed)
            team = Team(rank=int(name[-1]), size=2 if name.startswith("team") else 1)
            fit(fresh(), TRAIN, recipe(epochs=1), folder=tmp_path / name, seed=5, team=team)

    for name in ("alone 0", "team 0", "team 1"):
        recorded(name)
    assert sorted(seen["alone 0"]) == sorted(set(seen["team 0"]) | set(seen["team 1"]))
    assert len(seen["team 0"]) == len(seen["team 1"]) == 4  # 7 pictures in batches of 4 and 3: 2 + 2 for each
    assert len(set(seen["alone 0"])) == 7
