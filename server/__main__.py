"""`python -m server RUN --federation KIT`: start the study in a run folder between hospitals, and show its progress."""

import argparse
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

from nakt_fed.cli.display import Display
from nakt_fed.cli.guarded import guarded_work, stop_by_signal
from nakt_fed.cli.results import print_results
from nakt_fed.cli.words import any_letters
from nakt_fed.errors import RunError
from nakt_fed.events import EventLog, end_of, follow
from nakt_fed.study.file import load_federated

from .client import Client
from .kit import Kit, load_kit
from .stopped import stop_process
from .watch import COMPLETED, Watch


def main() -> None:
    """Exit codes: 0 done, 1 the study or the run failed, 130 stopped by Ctrl-C or SIGTERM. It ends the run with it."""
    options = _options()
    any_letters()
    stop_by_signal()
    study = [str(options.study)] if options.study else []
    again = ["nakt", "run", *study, "--resume", str(options.run), "--federation", str(options.federation)]
    sys.exit(guarded_work(options.run, partial(_work, options), again, new=options.new))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="server")
    parser.add_argument("run", type=Path)
    parser.add_argument("--federation", type=Path, required=True)
    parser.add_argument("--study", type=Path, help="the user's file, from which the run's own copy was made")
    parser.add_argument("--new", action="store_true", help="the run folder was made a moment ago")
    return parser.parse_args()


def _work(options: argparse.Namespace) -> None:
    run, kit = options.run.resolve(), load_kit(options.federation)
    study = load_federated(run / "study.toml")
    kit.address()  # refuse what can be refused before anything is read
    print("› study: every picture is read, the student's network tried", flush=True)
    from nakt_fed.study.inspect import inspect_study  # torch

    inspect_study(study, federated=True)
    print(f"run {run}", flush=True)
    home = Path(tempfile.mkdtemp(prefix="nakt-"))
    try:
        _follow(run, kit, Client(kit, home))
    finally:
        shutil.rmtree(home, ignore_errors=True)
    print_results(run)


def _follow(run: Path, kit: Kit, client: Client) -> None:
    """Start the run and show what it tells until it ends. The SuperLink may go away for a while meanwhile."""
    events, error = run / "events.jsonl", ""
    start = end_of(events)
    settings = {"study": str(run / "study.toml"), "run-dir": str(run), "federation": str(kit.folder)}
    run_id = client.start(settings)
    EventLog(events).emit("note", message=f"Flower starts the run's process (its run {run_id})")
    watch = Watch(client, run_id, run)
    try:
        with Display() as display:
            for event in follow(events, watch.over, start):
                error = str(event.get("message", "")) if event["kind"] == "error" else error
                watch.saw(event["kind"])
                display(event)
    except KeyboardInterrupt:
        with suppress(RunError):  # the SuperLink may be away just now
            client.stop(run_id)
        stop_process(run)
        raise
    if watch.status != COMPLETED:
        raise RunError(watch.full_disk() or error or watch.why(kit.state / "superexec.log"))


if __name__ == "__main__":
    main()
