"""What a training keeps on disk and goes on from: last.pt after every epoch, best.pt, history.csv."""

import csv
import io
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nakt_fed.errors import RunError
from nakt_fed.recipe import Recipe
from nakt_fed.whole_file import draft_of


@dataclass(frozen=True)
class EpochLog:
    """One row of history.csv. `loss` is the mean over the epoch's batches of the leading worker."""

    epoch: int
    loss: float
    validation_dice: float | None
    learning_rate: float
    seconds: float


@dataclass
class State:
    """All that changes while training; what `last.pt` holds."""

    model: nn.Module
    average: nn.Module | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    half: torch.dtype | None
    history: list[EpochLog]
    best: float = -1.0

    @property
    def answer(self) -> nn.Module:
        """The network that is evaluated and kept: the running average of the weights where there is one."""
        return self.average or self.model


def keep(state: State, folder: Path, mark: str) -> None:
    """history.csv, best.pt when this epoch is the best, and last.pt as the last act, so that a kill loses one epoch at most."""
    folder.mkdir(parents=True, exist_ok=True)
    score = state.history[-1].validation_dice
    if score is not None and score > state.best:
        state.best = score
        _save(state.answer.state_dict(), folder / "best.pt")
    write_history(state.history, folder / "history.csv")
    _save(_parts(state, mark), folder / "last.pt")


def finish(state: State, folder: Path, mark: str) -> None:
    """last.pt of a training that is over."""
    _save(_parts(state, mark, optimizer=False), folder / "last.pt")


def _parts(state: State, mark: str, optimizer: bool = True) -> dict[str, Any]:
    """What last.pt holds; a finished training needs no optimizer any more (two thirds of the bytes)."""
    parts: dict[str, Any] = {"model": state.model.state_dict(), "best": state.best, "mark": mark}
    parts["history"] = [asdict(log) for log in state.history]
    parts |= {"average": state.average.state_dict()} if state.average else {}
    parts |= {"optimizer": state.optimizer.state_dict(), "scaler": state.scaler.state_dict()} if optimizer else {}
    return parts


def _save(value: Any, path: Path) -> None:
    content = io.BytesIO()
    torch.save(value, content)  # straight to a full disk it would raise an error that does not say so
    with draft_of(path) as draft:
        draft.write_bytes(content.getbuffer())


def resume(state: State, folder: Path, mark: str, device: torch.device) -> None:
    if not (folder / "last.pt").exists():
        return
    saved = torch.load(folder / "last.pt", map_location=device, weights_only=True)
    if saved["mark"] != mark:
        raise RunError(
            f"{folder} holds a training of another network, with another recipe or seed, or on other pictures; "
            "take another folder, or delete its last.pt"
        )
    state.model.load_state_dict(saved["model"])
    if "optimizer" in saved:
        state.optimizer.load_state_dict(saved["optimizer"])
        state.scaler.load_state_dict(saved["scaler"])
    if state.average is not None:
        state.average.load_state_dict(saved["average"])
    state.best = saved["best"]
    state.history = [EpochLog(**log) for log in saved["history"]]


def settle(state: State, folder: Path, recipe: Recipe, device: torch.device) -> None:
    """Put the weights that are kept into the model, laid out as a checkpoint's are: the same answers to the last bit."""
    chosen = state.answer.state_dict()
    if recipe.keep == "best" and state.best >= 0:  # else there is no best.pt, or one of an earlier training
        chosen = torch.load(folder / "best.pt", map_location=device, weights_only=True)
    state.model.load_state_dict(chosen)
    state.model.to(memory_format=torch.contiguous_format).eval()


def write_history(history: list[EpochLog], path: Path) -> None:
    """history.csv: one row per epoch; an empty cell where there was no validation."""
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(EpochLog.__dataclass_fields__))
        table.writeheader()
        table.writerows(
            {**asdict(log), "validation_dice": "" if log.validation_dice is None else log.validation_dice}
            for log in history
        )
