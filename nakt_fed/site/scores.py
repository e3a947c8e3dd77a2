"""Dice of models on a site's private pictures, of each class: mean, spread and number, and nothing of a single picture."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.classes import ONE
from nakt_fed.data.folders import PictureSet
from nakt_fed.errors import AnswerError
from nakt_fed.metrics import dice, summary
from nakt_fed.predict import quantise

BLOCK = 64  # pictures whose soft masks are in memory at a time
DIGITS = 4
FEW = "too_few_images"
Answer = Callable[[NDArray[np.uint8]], Any]
"""Pictures (n, H, W) uint8 -> probabilities shaped as the pictures' masks: (n, H, W), of several classes (n, C, H, W)."""


def scores(parts: list[PictureSet], models: Mapping[str, Answer]) -> dict[str, Any]:
    """{"n", each model: {"mean", "std"}}: Dice over all pictures of `parts`, as fractions to four digits; nothing else leaves.

    Raises:
        AnswerError: a model answers with another shape, or with what is no probability.
    """
    return _told({name: _dice(parts, answer)[:, 0] for name, answer in models.items()})


def scores_of_classes(
    parts: list[PictureSet], models: Mapping[str, Answer], classes: Sequence[str], least: int
) -> dict[str, Any]:
    """`scores` by class, `classes` in the order of the masks' planes; {"refused"} of a class that fewer than `least` pictures show.

    The pictures without it do not count here: an answer that leaves them empty is right, so a mean over many pictures of which
    few show the class says much of each of these.

    Raises:
        AnswerError: as `scores`.
    """
    values = {name: _dice(parts, answer) for name, answer in models.items()}
    return {
        label: _told({name: each[:, plane] for name, each in values.items()}) if count >= least else {"refused": FEW}
        for plane, (label, count) in enumerate(shown(parts, classes).items())
    }


def shown(parts: list[PictureSet], classes: Sequence[str]) -> dict[str, int]:
    """How many of the pictures have a target of each class, `classes` in the order of the masks' planes; none: of the only one."""
    labels = tuple(classes) or ONE
    seen = [
        np.asarray(part.masks).reshape(len(part), len(labels), -1).any(axis=2).sum(axis=0)
        for part in parts
        if len(part)
    ]
    return dict(zip(labels, np.sum([np.zeros(len(labels), int), *seen], axis=0).tolist(), strict=True))


def _told(values: Mapping[str, NDArray[np.float64]]) -> dict[str, Any]:
    told = {name: summary(each) for name, each in values.items()}
    means = {name: {"mean": round(s.mean, DIGITS), "std": round(s.std, DIGITS)} for name, s in told.items()}
    return {"n": max(s.n for s in told.values()), **means}


def _dice(parts: list[PictureSet], answer: Answer) -> NDArray[np.float64]:
    """(n, C) Dice of the answer's masks, in blocks: memory does not grow with the pictures."""
    values = []
    for images, truth in _blocks(parts):
        soft = np.asarray(answer(images))
        if soft.shape != truth.shape:
            raise AnswerError(
                f"answer of shape {soft.shape} for pictures {images.shape}; one probability per pixel and class is expected"
            )
        stack = (len(images), -1, *images.shape[1:])
        seen, there = (quantise(soft) > 127).reshape(stack), (truth > 127).reshape(stack)
        values.append(np.stack([dice(seen[:, k], there[:, k]) for k in range(seen.shape[1])], axis=1))
    return np.concatenate(values)


def _blocks(parts: list[PictureSet]) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    for part in parts:
        for start in range(0, len(part), BLOCK):
            yield np.asarray(part.images[start : start + BLOCK]), np.asarray(part.masks[start : start + BLOCK])
