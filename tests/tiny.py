"""The smallest study that has everything, and engines that behave like hospitals do: late, in any order, or wrongly."""

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.exchange import Exchange, Reply, Request, in_turn
from nakt_fed.service import TeacherService
from nakt_fed.study import Study
from nakt_fed.study.file import parse_study
from nakt_fed.teacher import TeacherCard

SIZE = 32
SITES = ("ann", "bob")
CARD = {"network": "unet", "parameters": 9, "n_images": 5, "validation_dice": 0.5, "binary": False}
UNET: dict[str, Any] = {"network": "unet", "width": 2, "epochs": 2, "batch_size": 4}


def megabytes(pictures: int, size: int = SIZE) -> float:
    """`round.chunk_mb` for chunks of so many pictures."""
    return pictures * size**2 / 1e6


def write_folders(root: Path) -> Path:
    """<root>/<name>/images and masks for two sites, `organ` (transferal), `outside` (test) and `few` (fine-tuning)."""
    for seed, (name, count) in enumerate({"ann": 8, "bob": 8, "organ": 7, "outside": 3, "few": 4}.items()):
        write_folder(synthetic_set(count, SIZE, seed, gain=1 + seed / 5), root / name)
    return root


def tiny_study(root: Path, **tables: dict[str, Any] | list[dict[str, Any]]) -> Study:
    """A study over `write_folders`; each keyword replaces keys of a table, or a whole list of tables."""
    raw: dict[str, Any] = {
        "study": {"name": "tiny", "seed": 3, "image_size": SIZE},
        "site": [
            {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "teacher": UNET} for name in SITES
        ],
        "transferal": {"images": ["organ/images"], "views": 2},
        "filter": {"max_entropy": 8.0, "min_target_pixels": 0, "min_kept": 2},
        "round": {"chunk_mb": megabytes(8)},
        "student": UNET,
        "test": [{"name": "outside", "images": "outside/images", "masks": "outside/masks"}],
        "resources": {"site_threads": 1, "student_threads": 1, "sites_at_once": 1},
    }
    for name, table in tables.items():
        raw[name] = {**raw.get(name, {}), **table} if isinstance(table, dict) else table
    return parse_study(raw, root)


def whole_study(root: Path, **tables: Any) -> Study:
    """The study of the fixture `whole`."""
    few = {"images": "few/images", "masks": "few/masks", "epochs": 2, "batch_size": 4, "learning_rate": 0.01}
    return tiny_study(root, **{"transferal": {"views": 1}, "fine_tune": few, **tables})


Gray = NDArray[np.uint8]
Answer = Callable[[Gray], Any]


def bright(pictures: Gray) -> NDArray[np.float64]:
    """A teacher that takes brightness for a target: (n, H, W) uint8 -> (n, H, W) in 0..1."""
    return pictures / 255


def dark(pictures: Gray) -> NDArray[np.float64]:
    """The other way round."""
    return 1 - pictures / 255


def patchy(pictures: Gray) -> NDArray[np.float64]:
    """Dark where the mirrored picture is bright: with `bright`, a mean that differs from pixel to pixel."""
    return dark(pictures) * bright(pictures[:, ::-1])


def service_of(study: Study, name: str, run: Path, teacher: Answer) -> TeacherService:
    """A site's service with `teacher` in the place of a network."""
    site = next(site for site in study.site if site.name == name)
    folder = run / "sites" / name
    service = TeacherService(site, folder, image_size=SIZE, seed=study.study.seed, threads=1)
    service.__dict__["_ready"] = None, TeacherCard(**CARD, classes=site.classes)
    service.__dict__["teacher"] = teacher
    return service


Tamper = Callable[[str, Request, Reply], Reply]


class Hospitals:
    """`Sites` over services in this process.

    `order` shuffles the replies of all sites that are waiting, `late` names a site whose replies come after all others',
    `tamper` changes a reply on its way. `asked` is every request that was carried out.
    """

    def __init__(
        self,
        services: Mapping[str, TeacherService],
        order: int | None = None,
        late: str | None = None,
        tamper: Tamper = lambda site, request, reply: reply,
    ) -> None:
        self.services, self.late, self.tamper = services, late, tamper
        self.names = list(services)
        self.dice = random.Random(order) if order is not None else None
        self.asked: list[tuple[str, Request]] = []

    def arrivals(self) -> Iterator[list[str]]:
        yield self.names

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        if self.dice is None and self.late is None:
            for name, questions in requests.items():
                for request in filter(None, questions):
                    yield from in_turn(request, partial(self._answer, name))
            return
        yield from self._mixed({name: iter(questions) for name, questions in requests.items()})

    def _mixed(self, waiting: dict[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        """Up to three requests per site in flight; their replies come in any order, those of the late site at the end."""
        while waiting:
            names = [name for name in waiting if name != self.late] or list(waiting)
            taken = {name: _first(waiting[name], 3) for name in names}
            flying = [(name, request) for name in names for request in taken[name] if request]
            for name in names:
                if not taken[name]:
                    del waiting[name]
            if self.dice:
                self.dice.shuffle(flying)
            for name, request in flying:
                yield from in_turn(request, partial(self._answer, name))

    def _answer(self, name: str, request: Request) -> Exchange:
        self.asked.append((name, request))
        return Exchange(name, request, self.tamper(name, request, self.services[name].handle(request)), 0.01)


def _first(questions: Iterator[Request | None], count: int) -> list[Request | None]:
    return [request for _, request in zip(range(count), questions, strict=False)]


def hospitals(study: Study, run: Path, teachers: Mapping[str, Answer] | None = None, **behaviour: Any) -> Hospitals:
    """Both sites, with teachers that need no training."""
    teachers = {"ann": bright, "bob": patchy, **(teachers or {})}
    return Hospitals({name: service_of(study, name, run, teachers[name]) for name in study.site_names}, **behaviour)
