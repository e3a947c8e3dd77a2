"""The test sets of a run, and the Dice of everyone on them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.classes import ONE, title
from nakt_fed.data.folders import PictureSet, load_classes
from nakt_fed.metrics import dice
from nakt_fed.predict import soft_masks
from nakt_fed.shared_set import SharedSet, shared_test
from nakt_fed.site_data import private_data
from nakt_fed.study import Study
from nakt_fed.study.pictures import SiteSpec, TestSpec

DiceTable = dict[str, dict[str, NDArray[np.float64]]]
"""model -> test set -> Dice per picture."""


def test_sets(study: Study, folder: Path) -> dict[str, SharedSet]:
    """Every test set as a picture set of its own folder. Raises DataError when a picture cannot be used."""
    return {
        name: shared_test(name, pictures, folder / "tests" / name, study.chunk(len(pictures)), classes, study.asked)
        for name, pictures, classes in _pictures(study)
    }


def _pictures(study: Study) -> Iterator[tuple[str, PictureSet, tuple[str, ...]]]:
    """The sites' held-out shares (a simulation may look at them; a deployment has none), then the coordinator's own."""
    size = study.study.image_size
    for site in study.site:
        if site.test_share:
            yield site.name, private_data(site, size, study.study.seed).test, study.judged(site)
    for test in study.test:
        yield test.name, load_classes(test.images, test.masks, size), study.judged(test)


Masks = NDArray[np.uint8]
Combine = Callable[[Mapping[str, Masks]], Masks]


def of_class(study: Study, tests: Mapping[str, SharedSet], label: str) -> dict[str, SharedSet]:
    """The test sets that have masks of a class, judged by it alone."""
    everything: list[SiteSpec | TestSpec] = [*study.site, *study.test]
    names = {each.name for each in everything if label in study.judged(each)}
    return {name: shared.of(label) for name, shared in tests.items() if name in names}


def all_dice(
    study: Study, folder: Path, tests: Mapping[str, SharedSet], sites: Sequence[str], combine: Combine
) -> DiceTable:
    """Dice of each site's teacher, of their answers combined (the ensemble) and of the students, at threshold 0.5.

    Keeps the masks beside the test pictures.

    Args:
        tests: `of_class` of one class.
        sites: those that know it.
    """
    table: DiceTable = {}
    for name, shared in tests.items():
        for model, masks in _answers(study, folder, shared, sites, combine):
            table.setdefault(model, {})[title(name, shared.label)] = dice(masks > 127, shared.truth > 127)
    return table


def united(tables: Iterable[DiceTable]) -> DiceTable:
    """One table of several classes: teachers first."""
    rows = [item for table in tables for item in table.items()]
    whole: DiceTable = {}
    for model, tests in sorted(rows, key=lambda item: not item[0].startswith("teacher:")):
        whole.setdefault(model, {}).update(tests)
    return whole


def _answers(
    study: Study, folder: Path, shared: SharedSet, sites: Sequence[str], combine: Combine
) -> Iterator[tuple[str, Masks]]:
    store = shared.masks
    soft = {site: store.all(site) for site in sites}
    yield from ((f"teacher:{site}", masks) for site, masks in soft.items())
    students = {"student": folder} | ({"student+fine_tune": folder / "fine_tune"} if study.tunes_here else {})
    answers = {"ensemble": combine(soft)} | {name: _student(place, study, shared) for name, place in students.items()}
    for name, masks in answers.items():
        store.write_all(name, masks)
        yield name, masks


def _student(folder: Path, study: Study, shared: SharedSet) -> NDArray[np.uint8]:
    torch.set_num_threads(study.resources.student_threads)
    model, _ = load_checkpoint(folder / "student.safetensors", expect=study.student.spec())
    masks = soft_masks(model, np.asarray(shared.images[:]), classes=len(study.classes))
    return masks if study.classes == ONE else masks[:, study.classes.index(shared.label)]
