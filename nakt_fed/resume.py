"""What may change between two starts of a run, so that nothing that was already done is wrong or lost."""

import fcntl
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nakt_fed.errors import RunError, StudyError
from nakt_fed.locks import locked
from nakt_fed.study import FederatedStudy, Study
from nakt_fed.study.file import dump_study, load_study
from nakt_fed.whole_file import write_whole

ASKED = ("study", "site", "transferal", "test", "round.chunk_mb", "round.near")
"""What decides the sites' answers: never changes."""

LEARNED = ("filter", "fusion", "student", "round.unfinished")
"""What decides the student: may change until its training has begun."""

TUNED = ("fine_tune",)
"""What decides the fine-tuned student: likewise."""


ANSWERS = ".answers.lock"
"""Shared by whoever reads the stored answers, held alone by whoever deletes some."""


def is_run(folder: Path) -> bool:
    """Whether a run was begun in this folder; a user's own study.toml alone does not make one."""
    return (folder / "study.toml").is_file() and any((folder / name).exists() for name in (".lock", "events.jsonl"))


def demand_run(folder: Path) -> None:
    """Raise RunError when no run was begun in this folder."""
    if not is_run(folder):
        raise RunError(f"{folder} is not the folder of a run; give the one that `nakt run` printed")


def resume_command(folder: Path | str, federated: bool) -> str:
    """What goes on with a run, for messages; KIT stands for the coordinator's kit."""
    return f"nakt run --resume {shlex.quote(str(folder))}{' --federation KIT' if federated else ''}"


def resume_command_of(folder: Path) -> str:
    """The same of a run's folder, also where its study.toml cannot be read any more."""
    try:
        return resume_command(folder, isinstance(load_study(folder / "study.toml"), FederatedStudy))
    except StudyError:
        return resume_command(folder, False)


def write_study(study: Study, folder: Path) -> None:
    """study.toml, whole or not at all."""
    write_whole(folder / "study.toml", dump_study(study))


def refuse_other_study(begun: Study, wanted: Study, folder: Path) -> None:
    """Allow a mended filter, weighting or student before the student's training, and waiting times always.

    Raises:
        RunError: the run folder belongs to another study; the first key that differs is named.
    """
    old, new = begun.model_dump(mode="json"), wanted.model_dump(mode="json")
    fixed = ASKED + (LEARNED if _learning(folder) else ()) + (TUNED if _learning(folder / "fine_tune") else ())
    for key in fixed:
        table, _, name = key.partition(".")
        left, right = (study[table][name] if name else study[table] for study in (old, new))
        difference = _first_difference(left, right, key)
        if difference:
            raise RunError(
                f"{folder} was begun with another study: {difference}; "
                "start a new run without --resume, or resume without a study file"
            )


def _learning(folder: Path) -> bool:
    """Whether a network was trained here, or its training has begun."""
    return (folder / "last.pt").exists() or (folder / "student.safetensors").exists()


def _first_difference(left: Any, right: Any, where: str) -> str:
    if left == right:
        return ""
    if isinstance(left, dict) and isinstance(right, dict):
        return next(
            filter(
                None, (_first_difference(left.get(k), right.get(k), f"{where}.{k}") for k in sorted({*left, *right}))
            ),
            "",
        )
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return next(
            filter(
                None,
                (_first_difference(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(left, right, strict=True))),
            ),
            "",
        )
    return f"{where} was {left!r}, now {right!r}"


@contextmanager
def answers_in_use(folder: Path) -> Iterator[None]:
    """Make something of the stored answers, beside others who do. No site can withdraw meanwhile: its masks would be in it.

    Raises:
        RunError: no run, or a site is withdrawing.
    """
    demand_run(folder)
    with locked(folder / ANSWERS, fcntl.LOCK_SH, f"a site is withdrawing from {folder}; wait until it has"):
        yield


@contextmanager
def answers_alone(folder: Path) -> Iterator[None]:
    """Take answers away. Raises RunError: something is being made of them."""
    told = f"the answers in {folder} are in use by `nakt fuse`, `sweep` or `contributions`; wait for it or stop it"
    with locked(folder / ANSWERS, fcntl.LOCK_EX, told):
        yield
