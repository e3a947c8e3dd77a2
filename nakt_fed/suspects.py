"""suspects.json: which sites no majority of the others agrees with, and the evidence. The run goes on in any case."""

import json
from pathlib import Path
from typing import Any

from nakt_fed.answered import StoredAnswers
from nakt_fed.events import EventLog
from nakt_fed.shared_set import SharedSet
from nakt_fed.study import Study
from nakt_fed.weightings.trust import Trust, trust_of
from nakt_fed.whole_file import write_json

NAME = "suspects.json"
VERSION = 1


def note_suspects(study: Study, folder: Path, transferal: SharedSet, sites: list[str], events: EventLog) -> None:
    """Look through the answers to the transferal pictures (not their views), write down what they say of each site, and
    warn of every suspect that was not known before."""
    answers = StoredAnswers(transferal.masks, sites, {}, None)
    found = trust_of(sites, answers.originals(transferal.manifest.originals))
    known = read_suspects(folder)
    _write(folder, found)
    does = (
        "it counts nothing"
        if study.fusion.weighting == "robust"
        else 'it still counts; fusion.weighting = "robust" would leave it out'
    )
    for site, words in found.suspects().items():
        if site not in known:
            events.emit("warning", message=f"site {site} is suspected ({does}): {words}")


def _write(folder: Path, found: Trust) -> None:
    told = {
        "version": VERSION,
        "sites": list(found.sites),
        "pictures": found.pictures,
        "correlation": found.correlation.round(4).tolist(),
        "agreement": found.agreement.round(4).tolist(),
        "usual": round(found.usual, 4),
        "target": found.level.round(4).tolist(),
        "trust": found.weights,
        "suspects": found.suspects(),
    }
    write_json(folder / NAME, told)


def read_suspects(folder: Path) -> dict[str, str]:
    """Site -> evidence; empty where nobody is suspected or nobody has looked."""
    path = folder / NAME
    told: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return dict(told.get("suspects", {}))
