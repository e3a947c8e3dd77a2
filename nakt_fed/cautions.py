"""What a study does that its user hardly means, though it can be run: `nakt check` says so before the hours are spent."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from nakt_fed.data.pictures import content_hash
from nakt_fed.recipe import Recipe
from nakt_fed.study import FederatedStudy, Study

if TYPE_CHECKING:
    from nakt_fed.inspect_study import StudySummary

CLUSTER = ("RAY_ADDRESS", "NAKT_RAY_ADDRESS")
BLACK, WHITE = 16, 240
"""Levels up to and from which a pixel may be a mask's, resized and coded as JPEG."""


@dataclass
class Seen:
    """The content hashes of every set of pictures, by what people call it; and which sets look like masks."""

    hashes: dict[str, set[str]] = field(default_factory=dict)
    like_masks: list[str] = field(default_factory=list)

    def add(self, name: str, images: Any) -> None:
        """`images`: (N, H, W) uint8."""
        self.hashes[name] = {content_hash(image) for image in images}
        if look_like_masks(images):
            self.like_masks.append(name)


def look_like_masks(images: Any) -> bool:
    """Whether nearly all pixels are black or white, and some are white. `images`: (N, H, W) uint8."""
    stack = np.asarray(images)
    white = np.mean(stack >= WHITE) if stack.size else 0.0
    return bool(white > 0.01 and white + np.mean(stack < BLACK) > 0.95)


def on_cluster() -> bool:
    """Whether the student is trained on a Ray of the user's, elsewhere."""
    return any(os.environ.get(name) for name in CLUSTER)


def cautions(study: Study, summary: "StudySummary") -> list[str]:
    """A sentence each, with what to change."""
    return [
        *_untested(study, summary),
        *_threads(study),
        *_steps(study, summary),
        *_swapped(summary.seen),
        *_leaks(summary.seen),
    ]


def _untested(study: Study, summary: "StudySummary") -> Iterator[str]:
    if not summary.tests and not study.round.judge_student:
        yield "there is no test set, so the run will tell no Dice; give a [[site]] a test_share, or add a [[test]]"


def _threads(study: Study) -> Iterator[str]:
    cores, student, resources = os.cpu_count() or 1, study.student, study.resources
    threads = student.workers * resources.student_threads
    if threads > cores and not on_cluster():
        yield (
            f"student.workers = {student.workers} times resources.student_threads = {resources.student_threads} are {threads} "
            f"threads on {cores} cores, and each worker takes its own memory; lower them, or set RAY_ADDRESS to a cluster"
        )
    if resources.site_threads > cores and not isinstance(study, FederatedStudy):
        yield f"resources.site_threads is {resources.site_threads}, but there are {cores} cores; lower it"


def _steps(study: Study, summary: "StudySummary") -> Iterator[str]:
    """One step per epoch is what a batch size gives that is larger than the set; the default may be, for a tiny set."""
    learners: list[tuple[str, Recipe, int]] = [("student", study.student, summary.pictures)]
    if study.fine_tune and summary.fine_tune:
        learners.append(("fine_tune", study.fine_tune, summary.fine_tune))
    for site, counts in zip(study.site, summary.sites, strict=False):
        if not counts.checkpoint:
            learners.append((f"site {site.name!r}: teacher", site.teacher, counts.train))
    for who, recipe, pictures in learners:
        if recipe.batch_size > max(pictures, Recipe.model_fields["batch_size"].default):
            yield (
                f"{who}.batch_size is {recipe.batch_size}, but there are {pictures} pictures to learn from, "
                "so an epoch has one step; lower it"
            )


def _swapped(seen: Seen) -> Iterator[str]:
    for name in seen.like_masks:
        yield f"{name}: its pictures look like masks, nearly all black and white; are images and masks swapped?"


def _leaks(seen: Seen) -> Iterator[str]:
    for one, other in combinations(seen.hashes, 2):
        common, why = len(seen.hashes[one] & seen.hashes[other]), _harm(one, other)
        if common and why:
            yield f"{one} and {other} have {common} of the same pictures: {why}"


def _harm(one: str, other: str) -> str:
    """Why two sets should have no picture in common; "" where they may."""
    kinds = {name.partition(" '")[0] for name in (one, other)}
    if "test set" in kinds:
        return "" if kinds == {"test set"} else "the Dice there is of what was learned from, so it says too much"
    if kinds == {"site"}:
        return "two hospitals hardly have them both; is one folder given twice?"
    return (
        "its teacher knows their masks, so it answers them as no other picture"
        if kinds == {"site", "transferal"}
        else ""
    )
