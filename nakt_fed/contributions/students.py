"""Students from stored answers, of all sites and without each of them: what a site adds to the student."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nakt_fed.checkpoint import is_saved, load_checkpoint
from nakt_fed.classes import class_folder
from nakt_fed.contributions.gather import Real, told
from nakt_fed.errors import RunError
from nakt_fed.filtering import read_filter
from nakt_fed.fusion import sharpen
from nakt_fed.predict import soft_masks
from nakt_fed.replay.stored import Masks, StoredRun
from nakt_fed.resume import resume_command_of
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import PseudoSet
from nakt_fed.student import StudentJob, train_student


def students(
    run: StoredRun, place: Path, *, epochs: int, pictures: int, on_student: Callable[[str], None] = lambda who: None
) -> dict[str, Any]:
    """Train K + 1 students with the study's network, recipe and seed; what is trained in `place` is found again.

    Args:
        pictures: at most so many, evenly over those that the run's filter has kept; the same for every student.

    Raises:
        RunError: fewer than two sites, or the run has not filtered its pictures yet.
    """
    if len(run.active) < 2:
        raise RunError(
            "a student without the only site would learn nothing; --students needs a run of two sites or more"
        )
    rows = _rows(run, pictures)
    without = {site: [other for other in run.active if other != site] for site in run.active}
    scores = {}
    for who, sites in {"everyone": run.active, **{f"without-{site}": rest for site, rest in without.items()}}.items():
        on_student(who)
        folder = place / f"{who}-{epochs}-{len(rows)}"
        _train(run, sites, rows, epochs, folder)
        scores[who] = _dice(run, folder)
    whole = scores["everyone"]
    return {
        "epochs": epochs,
        "pictures": len(rows),
        "subset": "every picture that the filter kept"
        if pictures >= len(rows)
        else "evenly over those that the filter kept",
        "everyone": told(run, {"everyone": whole})["everyone"],
        "leave_one_out": told(run, {site: whole - scores[f"without-{site}"] for site in run.active}),
    }


def _rows(run: StoredRun, pictures: int) -> list[int]:
    place = class_folder(run.folder, run.label)
    if not (place / "filter.csv").exists():
        raise RunError(f"{place} has no filter.csv yet; go on with `{resume_command_of(run.folder)}`")
    kept = [row for row, verdict in enumerate(read_filter(place / "filter.csv")) if verdict.kept]
    return [kept[i] for i in np.linspace(0, len(kept) - 1, min(pictures, len(kept))).round().astype(int)]


def _train(run: StoredRun, sites: Iterable[str], rows: list[int], epochs: int, folder: Path) -> None:
    if is_saved(folder / "student.safetensors"):
        return
    folder.mkdir(parents=True, exist_ok=True)
    _pseudo_set(run, sites, rows, folder / "pseudo.zarr")
    study = run.study
    train_student(
        StudentJob(
            who="student",
            pseudo=str(folder / "pseudo.zarr"),
            out=folder,
            events=folder / "events.jsonl",
            network=study.student.spec(),
            recipe=study.student.recipe().model_copy(update={"epochs": epochs}),
            seed=study.study.seed,
            threads=study.resources.student_threads,
            calibrate=study.student.calibrate,
        )
    )


def _pseudo_set(run: StoredRun, sites: Iterable[str], rows: list[int], place: Path) -> None:
    names, shared = list(sites), run.transferal
    combine, ids = run.combiners(run.study.fusion).of(names), shared.manifest.ids
    out = PseudoSet(place, shared.manifest.image_size, shared.chunk, [ids[row] for row in rows])
    for number, chunk in enumerate(shared.masks.chunks):
        here = [row - chunk.start for row in rows if row in chunk]
        if here:
            pseudo = combine({site: shared.masks.read(site, number)[here] for site in names})
            pictures = np.asarray(shared.images[chunk.start : chunk.stop])[here]
            out.add(pictures, sharpen(pseudo, run.study.student.temperature))
    out.close("contributions")


def _dice(run: StoredRun, folder: Path) -> Real:
    torch.set_num_threads(run.study.resources.student_threads)
    model, _ = load_checkpoint(folder / "student.safetensors", expect=run.study.student.spec())
    answers = {name: soft_masks(model, np.asarray(shared.images[:])) for name, shared in run.tests.items()}

    def answer(shared: SharedSet, number: int) -> Masks:
        rows = shared.masks.chunks[number]
        return answers[shared.name.removeprefix("test-")][rows.start : rows.stop]

    return np.array(list(run.measured(answer, None).values()))
