"""`nakt run` and `nakt demo`: prepare the run folder, then hand over to the application `simulation`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from nakt_fed.app_folder import become
from nakt_fed.errors import RunError

if TYPE_CHECKING:
    from nakt_fed.study import Study

DEMO = Path(__file__).parent.parent / "demo" / "study.toml"

engine = click.option(
    "--engine", type=click.Choice(["flower", "in-process"]), default="flower", show_default=True,
    help="Flower's simulation, or the oracle in one process.",
)  # fmt: skip
_runs = click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True, help="Where run folders are made."
)
_seed = click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Another seed than the study's.")
federation = click.option(
    "--federation", metavar="KIT", type=click.Path(path_type=Path),
    help="Run it between hospitals: the coordinator's kit, made by `nakt provision`.",
)  # fmt: skip
verbose = click.option("-v", "--verbose", is_flag=True, help="Show Flower's log too.")


@click.command()
@click.argument("study", type=click.Path(path_type=Path), required=False)
@engine
@federation
@click.option("--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@_runs
@_seed
@verbose
def run(
    study: Path | None,
    engine: str,
    federation: Path | None,
    resumed: Path | None,
    runs: Path,
    seed: int | None,
    verbose: bool,
) -> None:
    """Run the study in the TOML file STUDY; or, with --resume RUN, go on where it was stopped.

    Simulated on this machine, or with --federation between hospitals: then only the names of the study's sites count.
    STUDY and --resume together go on with a changed study, as far as what is already done allows it.
    """
    if resumed and seed is not None:
        raise click.UsageError("--seed is for a new run: a run that goes on keeps its seed")
    if not resumed and study is None:
        raise click.UsageError("give a STUDY file, or --resume RUN")
    if federation and engine != "flower":
        raise click.UsageError("--engine is for a simulation; leave it out, or leave --federation out")
    how = simulation(engine, verbose) if federation is None else deployment(federation)
    if resumed:
        hand_over(_resumed(resumed, study, federation is not None), study, how)
    assert study is not None
    _start(study, runs, seed, how, federation is not None)


@click.command()
@engine
@_runs
@_seed
@verbose
def demo(engine: str, runs: Path, seed: int | None, verbose: bool) -> None:
    """Run the embedded study: three hospitals' teachers of three architectures become one student."""
    _start(DEMO, runs, seed, simulation(engine, verbose))


def simulation(engine: str, verbose: bool) -> list[str]:
    """The application that plays the sites on this machine, with its options."""
    return ["simulation", "--engine", engine, *(["--verbose"] if verbose else [])]


def deployment(kit: Path) -> list[str]:
    """The coordinator of a deployment."""
    return ["server", "--federation", str(kit.resolve())]


def _load(path: Path, federated: bool) -> "Study":
    from nakt_fed.study.file import load_federated, load_study

    return load_federated(path) if federated else load_study(path)


def _start(path: Path, runs: Path, seed: int | None, how: list[str], federated: bool = False) -> None:
    study = _load(path, federated)
    if seed is not None:
        study = study.model_copy(update={"study": study.study.model_copy(update={"seed": seed})})
    own = path if seed is None else None  # with another seed the file is not this run's study any more
    hand_over(_new(study, runs), own, [*how, "--new"])


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


def _resumed(folder: Path, path: Path | None, federated: bool) -> Path:
    from nakt_fed.locks import only_one
    from nakt_fed.resume import demand_run, refuse_other_study, write_study

    folder = folder.resolve()
    demand_run(folder)
    if path is not None:
        wanted = _load(path, federated)
        with only_one(folder):
            refuse_other_study(_load(folder / "study.toml", federated), wanted, folder)
            write_study(wanted, folder)
    return folder


def hand_over(folder: Path, study: Path | None, how: list[str]) -> NoReturn:
    """Become the application that works in this run folder; it says how to go on when it is stopped."""
    application, *options = how
    become(application, str(folder), *options, *(["--study", str(study)] if study else []))
