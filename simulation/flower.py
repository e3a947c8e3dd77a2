"""N sites on one machine: the deployment's two apps under Flower's simulation, started, followed and ended."""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError
from nakt_fed.events import end_of, follow
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from server.flower import bundle, last_words, run_settings

from .superlink import SuperLink, superlink

OnEvent = Callable[[dict[str, Any]], None]

COMPLETED = "finished:completed"  # Flower's word


def run_flower(study_path: Path, run: Path, verbose: bool, on_event: OnEvent) -> None:
    """Run a study under Flower's simulation; its results are in the run folder afterwards.

    Args:
        study_path: the study file.
        run: the run folder, made when it is not there, resumed when it is.
        verbose: show Flower's log on stderr; it goes to `run`/flower.log in any case.
        on_event: called with every event that the run writes to `run`/events.jsonl from now on.

    Raises:
        StudyError: the study cannot be used.
        RunError: the run failed; the message is the failing part's own where it left one.
    """
    study = load_study(study_path)
    settings = {"study": str(Path(study_path).resolve()), "run-dir": str(Path(run).resolve())}
    run_app(app_folder(), Path(run), settings, federation(study), study.resources.site_threads, verbose, on_event)


def federation(study: Study) -> dict[str, Any]:
    """Flower's simulation settings: one node per site, and as many actors as sites work at once."""
    threads, actors = study.resources.site_threads, min(study.resources.sites_at_once, len(study.site))
    return {
        "num-supernodes": len(study.site),
        "client-resources-num-cpus": threads,
        "client-resources-num-gpus": 0.0,
        "init-args-num-cpus": threads * actors,
    }


def run_app(
    folder: Path,
    run: Path,
    settings: Mapping[str, Any],
    simulation: Mapping[str, Any],
    threads: int,
    verbose: bool,
    on_event: OnEvent,
) -> None:
    """Run the Flower apps in `folder` with run-config `settings`: what `run_flower` does once it has read the study."""
    run.mkdir(parents=True, exist_ok=True)
    log = run / "flower.log"
    log_start = end_of(log)
    with log.open("ab"), superlink(threads, os.environ) as link, _echo(log, log_start, verbose):
        options = ["run", str(bundle(link.home, folder)), "nakt", "--stream"]
        options += ["--run-config", str(run_settings(link.home, settings))]
        options += ["--federation-config", " ".join(f"{key}={value}" for key, value in simulation.items())]
        error = _follow_run(link, options, run / "events.jsonl", log, on_event)
        status = link.status()
        if status != COMPLETED:
            words = last_words(log.read_bytes()[log_start:])
            raise RunError(error or f"the run failed in Flower ({status}); {log} says:\n{words}")


def _follow_run(link: SuperLink, options: list[str], events: Path, log: Path, on_event: OnEvent) -> str:
    """Start the run, pass its events on until it ends; the message of its last event `error`, or nothing."""
    error, start = "", end_of(events)
    with log.open("ab") as sink, link.flwr(options, sink) as client:
        for event in follow(events, lambda: client.poll() is not None or not link.alive, start):
            if event["kind"] == "error":
                error = str(event.get("message", ""))
            on_event(event)
    return error


@contextmanager
def _echo(log: Path, start: int, verbose: bool) -> Iterator[None]:
    """While inside, copy what is written to the log to stderr, if asked."""
    done = threading.Event()
    thread = threading.Thread(target=_copy, args=(log, start, done), daemon=True)
    if verbose:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if verbose:
            thread.join()


def _copy(log: Path, start: int, done: threading.Event) -> None:
    with log.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        ending = False
        while not ending:
            ending = done.wait(0.2)
            sys.stderr.write(file.read())
            sys.stderr.flush()
