"""The one training loop, for teachers, student and fine-tuning: Adam, Dice + BCE, resumable at every epoch."""

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nakt_fed.augment import augment
from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import DataError, RunError
from nakt_fed.feed import batches, feed
from nakt_fed.losses import Overlap, dice_bce
from nakt_fed.metrics import dice
from nakt_fed.precision import half_type, layout
from nakt_fed.predict import normalise, probabilities
from nakt_fed.recipe import Recipe
from nakt_fed.seeds import draw
from nakt_fed.team import ALONE, Team
from nakt_fed.training_state import EpochLog, State, finish, keep, resume, settle


def fit(
    model: nn.Module,
    train: PictureSet,
    recipe: Recipe,
    *,
    folder: Path,
    seed: int,
    validation: PictureSet | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    team: Team = ALONE,
) -> list[EpochLog]:
    """Train `model` in place and leave the weights in it that `recipe.keep` names.

    The same seed, recipe, pictures, thread count and one worker give the same weights bit for bit, also when the
    training was killed and started again: every epoch draws from a generator of its own.

    Args:
        train: pictures (N, H, W) uint8 with masks (N, H, W) or (N, C, H, W) uint8, soft masks allowed (probability × 255).
        folder: gets last.pt, best.pt and history.csv; an unfinished training in it goes on.
        validation: annotated pictures for the Dice in the history and for `keep = "best"`.

    Raises:
        DataError: fewer than two pictures, or no masks.
        RunError: the loss is not finite, or the folder holds another training.
    """
    if train.masks is None or len(train) < 2:
        raise DataError(f"training needs at least 2 pictures with masks, got {len(train)}; add pictures")
    device = team.pick_device()
    state = _start(model, recipe, device)
    mark = _fingerprint(model, train, recipe, seed)
    resume(state, folder, mark, device)
    wrapped = team.wrap(state.model)
    for epoch in range(len(state.history) + 1, recipe.epochs + 1):
        log = _epoch(wrapped, state, train, validation, recipe, seed, epoch, team, device)
        state.history.append(log)
        if team.leads:
            keep(state, folder, mark)
        if on_epoch:
            on_epoch(log)
    if team.leads:
        finish(state, folder, mark)
    settle(state, folder, recipe, device)
    return state.history


def _start(model: nn.Module, recipe: Recipe, device: torch.device) -> State:
    half = half_type(recipe.precision, device)
    model.to(device, memory_format=layout(device, half))  # type: ignore[call-overload]
    average = copy.deepcopy(model).requires_grad_(False) if recipe.ema else None
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)  # bfloat16 has float32's range
    return State(model, average, optimizer, scaler, half, [])


def _epoch(
    wrapped: nn.Module,
    state: State,
    train: PictureSet,
    validation: PictureSet | None,
    recipe: Recipe,
    seed: int,
    epoch: int,
    team: Team,
    device: torch.device,
) -> EpochLog:
    began = time.perf_counter()
    torch.manual_seed(draw(seed, epoch, team.rank))  # dropout
    generator = torch.Generator().manual_seed(draw(seed, epoch, team.rank, "augment"))
    order = batches(len(train), recipe.batch_size, draw(seed, epoch), team.rank, team.size)
    losses = []
    wrapped.train()
    for step, (images, masks) in enumerate(feed(train, order, device)):
        done = (epoch - 1) * len(order) + step
        rate = learning_rate(recipe, done, recipe.epochs * len(order))
        images, masks = augment(images, masks, recipe.augment, generator)
        state.optimizer.param_groups[0]["lr"] = rate
        losses.append(_step(wrapped, state, images, masks, recipe.overlap, device))
        if state.average is not None:
            _follow(state.average, state.model, decay(recipe, done))
    loss = float(torch.stack(losses).mean())
    if not math.isfinite(loss):
        raise RunError(
            f"the loss is {loss} in epoch {epoch}; lower learning_rate (now {recipe.learning_rate:g}) or check the pictures"
        )
    score = _validate(state.answer, validation) if team.leads else None
    return EpochLog(epoch, loss, score, rate, time.perf_counter() - began)


def _step(
    wrapped: nn.Module, state: State, images: Tensor, masks: Tensor, overlap: Overlap, device: torch.device
) -> Tensor:
    state.optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device.type, dtype=state.half, enabled=state.half is not None):
        loss = dice_bce(wrapped(normalise(images)), masks, overlap)
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    return loss.detach()


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights; counters and statistics are copied."""
    get_ema_multi_avg_fn(decay)(list(average.parameters()), list(model.parameters()), 0)
    for kept, current in zip(average.buffers(), model.buffers(), strict=True):
        kept.copy_(current)


def decay(recipe: Recipe, step: int) -> float:
    """Share of the running average that one more step keeps: less at first, so that a short training forgets its start."""
    return min(recipe.ema, (1 + step) / (10 + step))


def learning_rate(recipe: Recipe, step: int, steps: int) -> float:
    """Constant (the paper's), or a half cosine from the recipe's rate down to zero."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))


def _validate(model: nn.Module, validation: PictureSet | None) -> float | None:
    """Mean Dice at threshold 0.5, over the pictures and of several classes over every one that is known of a picture."""
    if validation is None or not len(validation):
        return None
    assert validation.masks is not None
    truth = np.asarray(validation.masks[:]) > 127
    classes = truth.shape[1] if truth.ndim == 4 else 1
    answer = probabilities(model, np.asarray(validation.images[:]), classes=classes) > 0.5
    if classes > 1:
        known = np.ones(truth.shape[:2], bool) if validation.known is None else validation.known
        answer, truth = answer[known], truth[known]
    return float(dice(answer, truth).mean())


def _fingerprint(model: nn.Module, train: PictureSet, recipe: Recipe, seed: int) -> str:
    shapes = {name: list(value.shape) for name, value in model.state_dict().items()}
    text = json.dumps([recipe.model_dump(mode="json"), seed, train.ids, list(train.images.shape), shapes])
    return hashlib.sha256(text.encode()).hexdigest()
