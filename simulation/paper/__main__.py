"""`python -m simulation.paper WHAT`: make the cells of a table or figure of the paper, then show it."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nakt_fed.cli.guarded import guarded_work, stop_by_signal
from nakt_fed.cli.words import any_letters, os_error, plain_error
from nakt_fed.errors import NaktError
from nakt_fed.paper.scale import SCALES
from nakt_fed.paper.sets import load_sets
from nakt_fed.paper.table import print_table, write_table
from simulation.cells import Cell, Made, made, result_path, run_cells

from .figures import FIGURES
from .presets import Experiments
from .tables import TABLES, Maker, cells_of
from .work import work


def main() -> None:
    """Exit codes: 0 done, 1 something failed, 130 stopped."""
    options = _options()
    any_letters()
    stop_by_signal()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        again = ["nakt", "paper", *(word for word in sys.argv[1:] if word != "--show")]
        sys.exit(guarded_work(options.out, partial(_work, options), again, new=False))
    except (NaktError, OSError) as error:
        plain_error(os_error(error) if isinstance(error, OSError) else str(error))
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="nakt paper")
    parser.add_argument("what", choices=[*TABLES, *FIGURES])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--sets", type=Path)
    parser.add_argument("--scale", choices=list(SCALES), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seeds", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--gpus", type=float, required=True)
    parser.add_argument("--show", action="store_true")
    return parser.parse_args()


def _work(options: argparse.Namespace) -> None:
    sets, scale = load_sets(options.data, options.sets), SCALES[options.scale]
    seeds = [Experiments(sets, scale, seed) for seed in range(options.seed, options.seed + options.seeds)]
    if options.what in TABLES:
        _table(options, seeds)
    else:
        _figure(options, seeds)


def _table(options: argparse.Namespace, seeds: Sequence[Experiments]) -> None:
    build = TABLES[options.what]
    if not options.show:
        run_cells(cells_of(build, seeds), work, options.out, threads=options.threads, gpus=options.gpus, tell=_tell)
    table = build(Maker(seeds, partial(_finished, options.out)))
    print_table(table)
    for path in write_table(table, options.out):
        print(path)


def _figure(options: argparse.Namespace, seeds: Sequence[Experiments]) -> None:
    draw = FIGURES[options.what]
    path = options.out / f"{options.what}.html"
    if not options.show:
        cells = cells_of(lambda maker: draw(maker, path), seeds)
        run_cells(cells, work, options.out, threads=options.threads, gpus=options.gpus, tell=_tell)
    drawn = draw(Maker(seeds, partial(_finished, options.out)), path)
    print(drawn or "nothing of it is measured yet; leave out --show")


def _finished(folder: Path, cell: Cell) -> Made | None:
    return made(folder, cell.key) if result_path(folder, cell.key).exists() else None


def _tell(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    main()
