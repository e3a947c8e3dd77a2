"""A site withdraws: its masks leave the run, and all that was made with them; resuming then makes it again without them.

What stays: the pictures, the other sites' answers, the ledger and the events (they hold hashes and counts, no masks). All
else in the folder is derived from the answers of all and is deleted: pseudo masks, students, reports, sweeps. The site's
own part of a simulation (teacher, held-out test set) goes too.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import zarr
from pydantic import ValidationError

from nakt_fed.classes import ONE, name_of
from nakt_fed.errors import RunError, StudyError
from nakt_fed.events import EventLog
from nakt_fed.locks import only_one
from nakt_fed.offered import set_folder
from nakt_fed.resume import ANSWERS, answers_alone, demand_run, write_study
from nakt_fed.store import PseudoSet
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from nakt_fed.toml_file import explain
from nakt_fed.withdrawal_proof import FOLDER, begin_proof, files_below, is_unfinished, search, write_proof

KEPT = {
    "study.toml", "manifest.json", "pictures.zarr", "masks.zarr", "ledger.jsonl", "events.jsonl", "flower.log", ".lock",
    ANSWERS, "sites", "tests", FOLDER,
}  # fmt: skip
MASKS = ("masks", "masks_done")


def study_without(study: Study, site: str) -> Study:
    """The same study as if the site had never been in it.

    Raises:
        RunError: it is not in the study, or it is the only one.
        StudyError: the study needs what is the site's own.
    """
    names = study.site_names
    if site not in names:
        raise RunError(f"the run has no site {site!r}; its sites are {', '.join(names)}")
    if len(names) == 1:
        raise RunError(f"{site!r} is the only site; without it nothing is left of the run: delete the folder")
    left = {label for each in study.site if each.name != site for label in each.classes}
    if study.classes != ONE and left != set(study.classes):
        alone = sorted(set(study.classes) - left)
        raise StudyError(f"{site!r} is the only site that knows {alone[0]!r}; start a new study without that class")
    raw = study.model_dump()
    raw["site"] = [each for each in raw["site"] if each["name"] != site]
    raw["fusion"]["weights"].pop(site, None)
    if raw["round"]["min_sites"]:
        raw["round"]["min_sites"] = min(raw["round"]["min_sites"], len(raw["site"]))
    try:
        without = type(study).model_validate(raw)
    except ValidationError as error:
        raise StudyError(f"without {site!r} the study cannot be used:\n{explain(type(study), error)}") from None
    if raw["fusion"].get("annotated") not in (None, *without.test_names):
        raise StudyError(f"fusion.annotated is the test set of {site!r}; set another one in study.toml, then try again")
    return without


def doomed(run: Path, study: Study, site: str) -> list[Path]:
    """What a withdrawal deletes: files and folders in the run's folder."""
    left = {name for name in study.site_names if name != site}
    stores = [run / "masks.zarr", *sorted((run / "tests").glob("*/masks.zarr"))]
    own = [run / "sites" / site, run / "tests" / site]
    sent = sorted((run / "sites").glob(f"*/sets/{set_folder(f'test-{site}')}"))
    derived = sorted(path for path in run.iterdir() if path.name not in KEPT)
    derived += sorted((run / "sites").glob("*/personalised"))  # made from the student that goes
    paths = [*own, *sent, *(path for store in stores for path in _of_store(store, left)), *derived]
    return [path for path in paths if path.exists() and not any(parent in own for parent in path.parents)]


def _of_store(store: Path, left: set[str]) -> Iterator[Path]:
    """Everything in a mask store that is not the masks of a site that stays."""
    for part in sorted(store.iterdir()) if store.is_dir() else ():
        if part.name in MASKS:
            yield from (stack for stack in sorted(part.iterdir()) if stack.is_dir() and name_of(stack.name) not in left)
        elif part.is_dir():
            yield part


def withdraw(run: Path, site: str) -> dict[str, Any]:
    """Delete, forget and search; returns the proof as far as it is known before the run was resumed.

    Killed on its way, it can be called again. `search.found` names files with the content of a deleted mask file: another
    site that answered a whole chunk alike.

    Raises:
        RunError: no such run or site, or another process works in the run.
        StudyError: the study needs what is the site's own.
    """
    demand_run(run)
    with only_one(run), answers_alone(run):
        study = load_study(run / "study.toml")
        without = _without(run, study, site)
        paths = doomed(run, study, site)
        proof = begin_proof(run, site, paths)
        write_study(without, run)  # from here on a resumed run does without the site, whatever is deleted by then
        _forget(run / "masks.zarr", site)
        for path in paths:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        _clear_storage(study, run)
        proof["search"] = search(run, proof)
        write_proof(run, proof)
        what = f"site {site} has withdrawn: {len(proof['deleted'])} files deleted"
        EventLog(run / "events.jsonl").emit("warning", message=what)
    return proof


def _without(run: Path, study: Study, site: str) -> Study:
    """The study without the site, also where an earlier start has taken it out and was then cut."""
    begun = is_unfinished(run, site) and site not in study.site_names
    return study if begun else study_without(study, site)


def _clear_storage(study: Study, run: Path) -> None:
    """The pseudo-annotated set that lies elsewhere, for workers on other machines."""
    if study.student.storage:
        for name in ("pseudo.zarr", "fine_tune/annotated.zarr"):
            place = f"{study.student.storage.rstrip('/')}/{run.name}/{name}"
            PseudoSet(place, study.study.image_size, 1, []).close("withdrawn")


def _forget(store: Path, site: str) -> None:
    """The site's card and what was noted of it; and that these masks were fused."""
    if not store.is_dir():
        return
    attrs = zarr.open_group(str(store), mode="a").attrs
    told: Any = dict(attrs)
    for table in (told.get("cards"), *(told.get("round", {}).get(key) for key in ("cards", "overlaps", "set_aside"))):
        if table:
            table.pop(site, None)
    if site in told.get("round", {}).get("away", []):
        told["round"]["away"].remove(site)
    told.pop("fused", None)
    attrs.put(told)


def words(run: Path, site: str) -> str:
    """What `withdraw` would do, for people. Raises RunError, StudyError: it would be refused."""
    demand_run(run)
    study = load_study(run / "study.toml")
    _without(run, study, site)
    paths = doomed(run, study, site)
    size = sum(path.stat().st_size for path in files_below(paths))
    names = "\n".join(f"  {path.relative_to(run)}{'/' if path.is_dir() else ''}" for path in paths)
    return f"{site} withdraws from {run}. Deleted are {size / 1e6:,.1f} MB:\n{names}"
