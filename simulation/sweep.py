"""`python -m simulation.sweep RUN SWEEP`: the cells of a sweep on Ray, then one row per cell (`nakt sweep`)."""

import argparse
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from nakt_fed.cli.guarded import guarded_work, stop_by_signal
from nakt_fed.cli.words import any_letters, os_error, plain_error
from nakt_fed.errors import NaktError
from nakt_fed.replay.cells import fuse_what, row_what, work
from nakt_fed.replay.pages import write_pages
from nakt_fed.replay.rows import mean_table, row_of, write_rows
from nakt_fed.replay.stored import StoredRun
from nakt_fed.replay.sweep_file import Setting, Sweep, Variant, load_sweep, refuse_twins, settings_of
from nakt_fed.resume import answers_in_use
from nakt_fed.study import Study
from nakt_fed.study.inspect import naming
from nakt_fed.study.trainable import try_network
from nakt_fed.teacher import fresh_network
from nakt_fed.weightings.check import refuse_combination

from .cells import Cell, made, result_path, run_cells


def main() -> None:
    """Exit codes as for a run: 0 done, 1 failed, 130 stopped."""
    parser = argparse.ArgumentParser(prog="simulation.sweep")
    parser.add_argument("run", type=Path)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--class", dest="label", default="")
    options = parser.parse_args()
    any_letters()
    stop_by_signal()
    name = options.name or options.sweep.stem
    again = ["nakt", "sweep", str(options.run), str(options.sweep), *(["--name", name] if options.name else [])]
    again += ["--class", options.label] if options.label else []
    try:
        with answers_in_use(options.run):
            sys.exit(_swept(StoredRun(options.run, options.label), load_sweep(options.sweep), name, again))
    except NaktError as error:
        plain_error(str(error))
    except OSError as error:  # the run's folder cannot be written to
        plain_error(os_error(error))
    sys.exit(1)


def _swept(run: StoredRun, sweep: Sweep, name: str, again: list[str]) -> int:
    """The exit code. Raises NaktError: a cell cannot be."""
    place = run.folder / "sweeps" / name
    cells = list(cells_of(run, sweep))
    place.mkdir(parents=True, exist_ok=True)
    return guarded_work(place, partial(carry_out, run, cells, sweep, place), again, new=False)


def cells_of(run: StoredRun, sweep: Sweep) -> Iterator[tuple[Cell, Setting]]:
    """A cell per row, on the cell of its fused masks. Raises StudyError: a weighting or student that cannot be, or is there twice."""
    settings = list(settings_of(sweep, run.study))
    refuse_twins(settings)
    for student in sweep.student:
        _try_student(student, run.study)
    for setting in settings:
        refuse_combination(run.study.model_copy(update={"fusion": setting.fusion}))
        where = {"run": str(run.folder)} | ({"class": run.label} if run.label else {})
        fused = Cell(f"pseudo masks {setting.told['weighting']}", fuse_what(run, setting.fusion), where=where)
        name = setting.name if setting.student.name == "none" else f"{setting.name} seed {setting.seed}"
        yield Cell(name, row_what(run, setting, sweep), needs={"fused": fused}, where=where), setting


def _try_student(student: Variant, study: Study) -> None:
    """Let its network answer a picture: better told now than after the other cells."""
    if student.name != "none":
        spec = student.spec(study)
        with naming(f"student {student.name!r} of the sweep"):
            try_network(fresh_network(spec.spec(), 0), spec.spec(), study.study.image_size, spec)


def carry_out(run: StoredRun, cells: list[tuple[Cell, Setting]], sweep: Sweep, folder: Path) -> None:
    """Make what is missing, and write the rows of all that is made, also when some cells failed."""
    try:
        run_cells([cell for cell, _ in cells], work, folder, threads=sweep.threads)
    finally:
        done = [(made(folder, cell.key), its) for cell, its in cells if result_path(folder, cell.key).exists()]
        rows = [row_of(setting, cell.result, cell.seconds) for cell, setting in done]
        files = write_rows(rows, folder)
    print(mean_table(rows))
    for path in files:
        print(f"rows: {path}")
    fused = {setting.told["weighting"]: made(folder, cell.needs["fused"].key).place for cell, setting in cells}
    for path in write_pages(run, rows, fused, folder):
        print(f"page: {path}")


if __name__ == "__main__":
    main()
