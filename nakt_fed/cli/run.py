"""`nakt run` and `nakt demo`: prepare the run folder, then hand over to the application `simulation`."""

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError

if TYPE_CHECKING:
    from nakt_fed.study import Study

DEMO = Path(__file__).parent.parent / "demo" / "study.toml"
STOPS = (signal.SIGINT, signal.SIGTERM)

_engine = click.option(
    "--engine", type=click.Choice(["flower", "in-process"]), default="flower", show_default=True,
    help="Flower's simulation, or the oracle in one process.",
)  # fmt: skip
_runs = click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Where run folders are made."
)
_seed = click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Another seed than the study's.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show Flower's log too.")


@click.command()
@click.argument("study", type=click.Path(path_type=Path), required=False)
@_engine
@click.option("--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@_runs
@_seed
@_verbose
def run(study: Path | None, engine: str, resumed: Path | None, runs: Path, seed: int | None, verbose: bool) -> None:
    """Run the study in the TOML file STUDY; or, with --resume RUN, go on where it was stopped.

    STUDY and --resume together go on with a changed study, as far as what is already done allows it.
    """
    if resumed and seed is not None:
        raise click.UsageError("--seed is for a new run: a run that goes on keeps its seed")
    if resumed:
        _hand_over(_resumed(resumed, study), study, engine, verbose, [])
    if study is None:
        raise click.UsageError("give a STUDY file, or --resume RUN")
    _start(study, runs, seed, engine, verbose)


@click.command()
@_engine
@_runs
@_seed
@_verbose
def demo(engine: str, runs: Path, seed: int | None, verbose: bool) -> None:
    """Run the embedded study: three hospitals' teachers of three architectures become one student."""
    _start(DEMO, runs, seed, engine, verbose)


def _start(path: Path, runs: Path, seed: int | None, engine: str, verbose: bool) -> None:
    from nakt_fed.study_file import load_study

    study = load_study(path)
    if seed is not None:
        study = study.model_copy(update={"study": study.study.model_copy(update={"seed": seed})})
    own = path if seed is None else None  # with another seed the file is not this run's study any more
    _hand_over(_new(study, runs), own, engine, verbose, ["--new"])


def _new(study: "Study", runs: Path) -> Path:
    from nakt_fed.resume import write_study

    stamp = f"{study.study.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, 100):
        folder = (runs / (stamp if number == 1 else f"{stamp}-{number}")).resolve()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        write_study(study, folder)
        return folder
    raise RunError(f"{runs} holds a hundred runs of this second; wait a moment")


def _resumed(folder: Path, path: Path | None) -> Path:
    from nakt_fed.resume import is_run, only_one, refuse_other_study, write_study
    from nakt_fed.study_file import load_study

    folder = folder.resolve()
    if not is_run(folder):
        raise RunError(f"{folder} is not the folder of a run; give the one that `nakt run` printed")
    if path is not None:
        wanted = load_study(path)
        with only_one(folder):
            refuse_other_study(load_study(folder / "study.toml"), wanted, folder)
            write_study(wanted, folder)
    return folder


def _hand_over(folder: Path, study: Path | None, engine: str, verbose: bool, options: list[str]) -> None:
    """Become `python -m simulation`: Ctrl-C, exit code and terminal are then its own."""
    apps = app_folder()
    if not (apps / "simulation" / "__main__.py").exists():
        raise RunError(f"the applications are not in {apps}; install nakt-fed again")
    paths = [str(apps), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    options = [
        *options,
        "--engine",
        engine,
        *(["--verbose"] if verbose else []),
        *(["--study", str(study)] if study else []),
    ]
    sys.stdout.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)  # a Ctrl-C while it loads waits until it can say how to resume
    os.execve(sys.executable, [sys.executable, "-P", "-m", "simulation", str(folder), *options], environment)
