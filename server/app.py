"""The Flower ServerApp of the coordinator: finds the sites, then runs the study."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from httpx import HTTPError  # what Flower's Grid raises

import nakt_fed
from nakt_fed.errors import NaktError, StudyError
from nakt_fed.events import EventLog
from nakt_fed.exchange import Sites
from nakt_fed.locks import only_one
from nakt_fed.resume import write_study
from nakt_fed.signing import signer
from nakt_fed.site.receipts import FILE, Receipts
from nakt_fed.study import Study
from nakt_fed.study.file import load_study

from .find import find_sites
from .grid import FlowerSites, with_meta
from .kit import Kit, load_kit
from .looks import look_often
from .presence import Presence
from .stopped import obey_stop
from .witness import Witnessed

MESSAGE_SECONDS = 3600.0  # until Flower gives up a message; then the chunk is asked again
MESSAGES = 4  # per site on their way: two are fetched, one is worked on, one waits
SHARE = 8  # requests in a message: more, and one message alone would bring back all masks while the site waits
FIND_SECONDS = 300.0  # a simulated site's first answer waits for Ray: 5 to 19 s on an idle machine

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run config: `study`, an absolute path or "demo"; `run-dir`, an absolute path or empty for a new one in ./runs;
    `federation`, the coordinator's kit, or empty in a simulation.

    Flower counts a run as failed when this raises; the event `error` holds the reason for people.
    """
    study = load_study(study_path(str(context.run_config["study"])))
    run = run_folder(str(context.run_config["run-dir"]), study)
    federation = str(context.run_config["federation"])
    events = EventLog(run / "events.jsonl")
    try:
        run_between_hospitals(grid, study, run, load_kit(Path(federation))) if federation else run_on(grid, study, run)
    except NaktError as error:
        events.emit("error", message=str(error))
        raise
    except Exception as error:
        events.emit("error", message=in_words(error))
        raise


def in_words(error: Exception) -> str:
    """What nobody expected: Flower's SuperLink fails, or a fault of ours."""
    words = f"{type(error).__name__}: {error}".splitlines()[0]
    if isinstance(error, HTTPError):
        return f"Flower's SuperLink failed ({words}); is its disk full? state/superlink.log in the kit tells why; then resume"
    return f"{words}; this is a fault of nakt-fed, Flower's log has the rest"


def run_on(grid: Grid, study: Study, run: Path) -> None:
    """Simulated sites: whoever answers with a site's name is that site; all must be there."""
    extra = {"run": str(run)}
    nodes = find_sites(grid, study.site_names, FIND_SECONDS, extra)
    presence = Presence(study.site_names, lambda: nodes, 0.0)
    messages = min(MESSAGES, study.round.in_flight)
    sites = FlowerSites(grid, presence, messages, study.round.site_timeout, with_meta(extra))
    _carry_out(study, run, sites)


def run_between_hospitals(grid: Grid, study: Study, run: Path, kit: Kit) -> None:
    """Sites are who holds the registered key; what is asked of them is signed; one may be away for `round.site_timeout`."""
    with only_one(run):
        obey_stop(run)
        names = kit.public_keys()
        unknown = sorted(set(study.site_names) - set(names.values()))
        if unknown:
            raise StudyError(
                f"site {unknown[0]!r} of the study is not in the federation ({', '.join(sorted(names.values()))}); "
                "add it with nakt provision --add, or rename it in the study"
            )
        look_often()
        presence = Presence(
            study.site_names, lambda: connected(grid, names), study.round.site_timeout, EventLog(run / "events.jsonl")
        )
        sign = signer(kit.signing_key, run.name)
        messages = min(MESSAGES, study.round.in_flight)
        share = min(SHARE, max(1, study.round.in_flight // messages))
        keys = {name: key for key, name in names.items()}
        sites = FlowerSites(grid, presence, messages, MESSAGE_SECONDS, sign, share, keys)
        _carry_out(study, run, Witnessed(sites, Receipts(run / FILE), run.name))


def _carry_out(study: Study, run: Path, sites: Sites) -> None:
    from nakt_fed.run import run_study  # torch: only once the study is known to be good

    from .student import fit_student

    run_study(study, run, sites, fit_student)


def connected(grid: Grid, names: Mapping[bytes, str]) -> dict[str, int]:
    """The sites that are online, with their nodes, by the key that each was registered with; never by what they say."""
    return {names[node.public_key]: node.node_id for node in grid.get_nodes() if node.public_key in names}


def study_path(name: str) -> Path:
    """The study's file. Raises StudyError for a relative path: Flower runs apps in a folder of its own choice."""
    path = Path(nakt_fed.__file__).parent / "demo" / "study.toml" if name == "demo" else Path(name).expanduser()
    if not path.is_absolute():
        raise StudyError(f"run config study = {name!r} is a relative path; give an absolute one: $PWD/{name}")
    return path


def run_folder(name: str, study: Study) -> Path:
    """The run's folder, with the study in it, from where simulated sites read it too."""
    stamp = f"{study.study.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    run = Path(name).expanduser() if name else Path.cwd() / "runs" / stamp
    if not run.is_absolute():
        raise StudyError(f"run config run-dir = {name!r} is a relative path; give an absolute one")
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "study.toml").exists():
        write_study(study, run)
    return run
