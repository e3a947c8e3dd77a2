"""What a study does that its user hardly means, though it can be run: `nakt check` says so before the hours are spent."""

from collections.abc import Iterator
from itertools import combinations

from nakt_fed.cores import cores
from nakt_fed.recipe import Recipe
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.summary import Seen, StudySummary
from nakt_fed.study.trainable import on_cluster


def cautions(study: Study, summary: StudySummary) -> list[str]:
    """A sentence each, with what to change."""
    return [
        *_untested(study, summary),
        *_threads(study),
        *_steps(study, summary),
        *_swapped(summary.seen),
        *_leaks(summary.seen),
    ]


def _untested(study: Study, summary: StudySummary) -> Iterator[str]:
    if not summary.tests and not study.round.judge_student:
        yield "there is no test set, so the run will tell no Dice; give a [[site]] a test_share, or add a [[test]]"


def _threads(study: Study) -> Iterator[str]:
    here, student, resources = cores(), study.student, study.resources
    threads = student.workers * resources.student_threads
    if threads > here and not on_cluster():
        what = (
            f"student.workers = {student.workers} times resources.student_threads = {resources.student_threads} are {threads} threads, "
            "each worker with memory of its own"
            if student.workers > 1
            else f"resources.student_threads is {threads}"
        )
        yield f"{what}, but there are {here} cores; lower it, or set RAY_ADDRESS to a cluster"
    if resources.site_threads > here and not isinstance(study, FederatedStudy):
        yield f"resources.site_threads is {resources.site_threads}, but there are {here} cores; lower it"


def _steps(study: Study, summary: StudySummary) -> Iterator[str]:
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
