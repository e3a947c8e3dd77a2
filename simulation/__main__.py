"""`python -m simulation RUN`: carry the study in a run folder out, show its progress, end everything, say how to resume."""

import argparse
import json
import re
import shlex
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

from nakt_fed.cli.display import Display, plain_error, print_results
from nakt_fed.errors import NaktError
from nakt_fed.events import end_of, follow
from nakt_fed.resume import only_one
from nakt_fed.study import Study, load_study



def main() -> None:
    """Exit codes: 0 done, 1 the study or the run failed, 130 stopped by Ctrl-C or SIGTERM."""
    options = _options()
    run: Path = options.run
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with only_one(run):
            study = load_study(run / "study.toml")
            _look_first(study)
            print(f"run {run}", flush=True)
            _carry_out(study, run, options.engine, options.verbose)
            print_results(run)
    except KeyboardInterrupt:
        plain_error(f"stopped; go on with: {_again(run)}")
        sys.exit(130)
    except (NaktError, OSError) as error:
        plain_error(f"{error}{_site_words(run, str(error))}")
        if (run / "manifest.json").exists() or (run / "sites").exists():
            plain_error(f"what was done is kept; when mended, go on with: {_again(run)}")
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulation")
    parser.add_argument("run", type=Path)
    parser.add_argument("--engine", choices=["flower", "in-process"], default="flower")
    parser.add_argument("--verbose", action="store_true")
    return parser.parse_args()


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _look_first(study: Study) -> None:
    """Refuse what can be refused before minutes of work."""
    from nakt_fed.inspect_study import inspect_study  # torch

    inspect_study(study)


def _carry_out(study: Study, run: Path, engine: str, verbose: bool) -> None:
    with Display() as display:
        if engine == "flower":
            from .flower import run_flower

            run_flower(run / "study.toml", run, verbose, display)
        else:
            _in_process(study, run, display)


def _in_process(study: Study, run: Path, display: Display) -> None:
    from .oracle import run_in_process

    ended = threading.Event()
    events = follow(run / "events.jsonl", ended.is_set, end_of(run / "events.jsonl"))
    watcher = threading.Thread(target=lambda: [display(event) for event in events], daemon=True)
    watcher.start()
    try:
        run_in_process(study, run)
    finally:
        ended.set()
        watcher.join()


def _again(run: Path) -> str:
    return f"nakt run --resume {shlex.quote(str(run))}"


def _site_words(run: Path, message: str) -> str:
    """In a simulation the sites are ours: add what a site wrote under the reference that the message names."""
    words = []
    for reference in re.findall(r"reference ([0-9a-f]{8})", message):
        for path in (run / "sites").glob("*/errors.jsonl"):
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            words += [f"\n  {path.parent.name} ({reference}): {line['error']}" for line in lines if line["reference"] == reference]
    return "".join(dict.fromkeys(words))


if __name__ == "__main__":
    main()
