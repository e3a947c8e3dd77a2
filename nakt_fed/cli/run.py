"""`nakt run` and `nakt demo`: prepare the run folder, then hand over to the application `simulation`."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError
from nakt_fed.resume import refuse_other_study
from nakt_fed.study import Study, dump_study, load_study

DEMO = Path(__file__).parent.parent / "demo" / "study.toml"
ENGINE = click.Choice(["flower", "in-process"])


@click.command()
@click.argument("study", type=click.Path(path_type=Path), required=False)
@click.option("--engine", type=ENGINE, default="flower", show_default=True, help="Flower's simulation, or the oracle in one process.")
@click.option("--resume", "resumed", metavar="RUN", type=click.Path(path_type=Path), help="Go on with this run folder.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True, help="Where run folders are made.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), help="Another seed than the study's.")
@click.option("-v", "--verbose", is_flag=True, help="Show Flower's log too.")
def run(study: Path | None, engine: str, resumed: Path | None, runs: Path, seed: int | None, verbose: bool) -> None:
    """Run the study in the TOML file STUDY; or, with --resume RUN, go on where it was stopped."""
    if study is None and resumed is None:
        raise click.UsageError("give a STUDY file, or --resume RUN")
    if resumed and seed is not None:
        raise click.UsageError("--seed belongs to a new run; a resumed one keeps its own")
    folder = _resumed(resumed, study) if resumed else _new(_seeded(load_study(study), seed), runs)  # type: ignore[arg-type]
    _hand_over(folder, engine, verbose)


@click.command()
@click.option("--engine", type=ENGINE, default="flower", show_default=True)
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs"), show_default=True)
@click.option("-v", "--verbose", is_flag=True)
def demo(engine: str, runs: Path, verbose: bool) -> None:
    """Run the embedded study: three hospitals' teachers of three architectures become one student."""
    _hand_over(_new(load_study(DEMO), runs), engine, verbose)


def _seeded(study: Study, seed: int | None) -> Study:
    return study if seed is None else study.model_copy(update={"study": study.study.model_copy(update={"seed": seed})})


def _new(study: Study, runs: Path) -> Path:
    stamp = f"{study.study.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    for number in range(1, 100):
        folder = (runs / (stamp if number == 1 else f"{stamp}-{number}")).resolve()
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        (folder / "study.toml").write_text(dump_study(study), encoding="utf-8")
        return folder
    raise RunError(f"{runs} holds a hundred runs of this second; wait a moment")


def _resumed(folder: Path, study: Path | None) -> Path:
    folder = folder.resolve()
    if not (folder / "study.toml").exists():
        raise RunError(f"{folder} is no run folder (it has no study.toml); give a folder under runs/")
    if study is not None:
        wanted = load_study(study)
        refuse_other_study(load_study(folder / "study.toml"), wanted, folder)
        (folder / "study.toml").write_text(dump_study(wanted), encoding="utf-8")
    return folder


def _hand_over(folder: Path, engine: str, verbose: bool) -> None:
    """Become `python -m simulation`: Ctrl-C, exit code and terminal are then its own."""
    apps = app_folder()
    if not (apps / "simulation" / "__main__.py").exists():
        raise RunError(f"the applications are not in {apps}; install nakt-fed again")
    paths = [str(apps), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    options = ["--verbose"] if verbose else []
    sys.stdout.flush()
    os.execve(sys.executable, [sys.executable, "-P", "-m", "simulation", str(folder), "--engine", engine, *options], environment)
