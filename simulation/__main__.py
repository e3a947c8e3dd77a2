"""`python -m simulation RUN`: carry out the study in a run folder, show progress, end everything, say how to resume."""

import argparse
import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from nakt_fed.cli.display import Display
from nakt_fed.cli.guarded import guarded_work, stop_by_signal
from nakt_fed.cli.results import print_results
from nakt_fed.cli.words import any_letters, os_error, plain_error
from nakt_fed.errors import RunError
from nakt_fed.events import end_of, follow
from nakt_fed.locks import only_one
from nakt_fed.study import Study
from nakt_fed.study.file import load_study


def main() -> None:
    """Exit codes: 0 done, 1 the study or the run failed, 130 stopped by Ctrl-C or SIGTERM."""
    options = _options()
    any_letters()
    stop_by_signal()
    try:
        with only_one(options.run):
            words = partial(_site_words, options.run)
            sys.exit(guarded_work(options.run, partial(_work, options), _again(options), new=options.new, more=words))
    except (RunError, OSError) as error:
        plain_error(os_error(error) if isinstance(error, OSError) else str(error))
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("run", type=Path)
    parser.add_argument("--engine", choices=["flower", "in-process"], default="flower")
    parser.add_argument("--study", type=Path, help="the user's file, from which the run's own copy was made")
    parser.add_argument("--new", action="store_true", help="the run folder was made a moment ago")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _work(options: argparse.Namespace) -> None:
    run: Path = options.run
    study = load_study(run / "study.toml")
    print("› study: every picture is read, every network tried", flush=True)
    from nakt_fed.study.inspect import inspect_study  # torch

    inspect_study(study)  # refuse what can be refused before minutes of work
    print(f"run {run}", flush=True)
    with Display() as display:
        _carry_out(study, options, lambda event: display(_told(run, event)))
    print_results(run)


def _carry_out(study: Study, options: argparse.Namespace, on_event: Callable[[dict[str, Any]], None]) -> None:
    if options.engine == "flower":
        from .flower import run_flower

        print("› Flower starts", flush=True)
        run_flower(options.run / "study.toml", options.run, options.verbose, on_event)
    else:
        _in_process(study, options.run, on_event)


def _in_process(study: Study, run: Path, on_event: Callable[[dict[str, Any]], None]) -> None:
    from .oracle import run_in_process

    ended = threading.Event()
    events = follow(run / "events.jsonl", ended.is_set, end_of(run / "events.jsonl"))

    def watch() -> None:
        for event in events:
            on_event(event)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        run_in_process(study, run)
    finally:
        ended.set()
        watcher.join()


def _again(options: argparse.Namespace) -> list[str]:
    """The command that goes on; with the user's study file, so that what is mended there counts."""
    study = [str(options.study)] if options.study else []
    engine = [] if options.engine == "flower" else ["--engine", options.engine]
    return ["nakt", "run", *study, "--resume", str(options.run), *engine]


def _told(run: Path, event: dict[str, Any]) -> dict[str, Any]:
    if event["kind"] != "warning":
        return event
    return event | {"message": event["message"] + _site_words(run, event["message"])}


def _site_words(run: Path, message: str) -> str:
    """In a simulation the sites are ours: add what a site wrote under the reference that the message names."""
    words = []
    for reference in re.findall(r"reference ([0-9a-f]{8})", message):
        for path in (run / "sites").glob("*/errors.jsonl"):
            told = [line["error"] for line in follow(path, lambda: True) if line["reference"] == reference]
            words += [f"\n  {path.parent.name} ({reference}): {error}" for error in told]
    return "".join(dict.fromkeys(words))


if __name__ == "__main__":
    main()
