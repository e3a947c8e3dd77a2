"""A run between hospitals as its folder looks while it goes on; events and ledger by those who write them in a run.

`story` is no test; test_status.py and test_page.py tell their stories with it.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nakt_fed.events import EventLog
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.ledger import Ledger
from nakt_fed.manifest import Manifest
from nakt_fed.progress import SiteMeter
from nakt_fed.study.file import dump_study, parse_study
from tests.tiny import megabytes

CHUNK = 10
SIZE = 32


class Story:
    """Tells a run into `folder`: 35 transferal pictures in 4 chunks, 12 test pictures in 2."""

    def __init__(self, folder: Path, *sites: str, simulated: bool = False, prepared: bool = True) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.sites = folder, sites
        self.events, self.ledger = EventLog(folder / "events.jsonl"), Ledger(folder / "ledger.jsonl")
        teacher = {"network": "unet", "width": 2}
        own = {"images": "images", "masks": "masks", "teacher": teacher} if simulated else {}
        raw: dict[str, Any] = {
            "study": {"name": "breast", "image_size": SIZE},
            "site": [{"name": name, **own} for name in sites],
            "transferal": {"images": ["organ"], "views": 0},
            "round": {"chunk_mb": megabytes(CHUNK)},
            "student": teacher,
            "test": [{"name": "stu", "images": "stu/images", "masks": "stu/masks"}],
        }
        (folder / "study.toml").write_text(dump_study(parse_study(raw, folder)), encoding="utf-8")
        if prepared:
            self.prepare()

    def prepare(self) -> None:
        for folder, count in ((self.folder, 35), (self.folder / "tests" / "stu", 12)):
            folder.mkdir(parents=True, exist_ok=True)
            names = tuple(f"{number:03d}" for number in range(count))
            (folder / "manifest.json").write_text(Manifest(names, names, SIZE).to_json(), encoding="utf-8")

    def stage(self, name: str, seconds: float | None = None) -> None:
        """It begins; with seconds it is done too."""
        self.events.emit("stage", name=name, state="begins")
        if seconds is not None:
            self.events.emit("stage", name=name, state="done", seconds=seconds)

    def presence(self, site: str, state: str, reason: str = "") -> None:
        self.events.emit("presence", site=site, state=state, reason=reason)

    def accept(self, *sites: str) -> None:
        """These sites accept the offer of the transferal pictures."""
        for site in sites:
            self.ledger.write(_exchange(site, "offer", 300, 0), "transferal", None, 35, "ok")

    def answer(self, site: str, chunks: int, of: int, name: str = "transferal", kind: str = "masks") -> None:
        """The site answers `chunks` chunks of the `of` that it is asked in this start."""
        meter = SiteMeter(self.events, name, kind)
        meter.total[site] = of
        for number in range(chunks):
            self.ledger.write(_exchange(site, kind, 50, 700), name, number, CHUNK, "ok")
            meter.add(site, CHUNK, 750)

    def fault(self, site: str, outcome: str, reason: str) -> None:
        self.ledger.write(_exchange(site, "masks", 50, 0), "transferal", 0, CHUNK, outcome, reason)

    def set_aside(self, site: str, where: str, reason: str) -> None:
        self.events.emit("warning", message=f"site {site} is set aside ({where}): {reason}")

    def epoch(self, who: str, epoch: int, epochs: int) -> None:
        told = {"loss": 0.5, "validation_dice": 0.712, "seconds_left": 4.0 * (epochs - epoch)}
        self.events.emit("epoch", who=who, epoch=epoch, epochs=epochs, **told)

    def raw(self, **event: Any) -> None:
        """Any line, also one that nobody would write."""
        with self.events.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), **event}) + "\n")

    def finish(self) -> None:
        """All that comes after the masks."""
        for name in ("fusion", "student", "evaluation", "report"):
            self.stage(name, 61.0)
        (self.folder / "report.html").write_text("report")
        self.events.emit("done", report=str(self.folder / "report.html"))


def _exchange(site: str, kind: Any, size_out: int, size_back: int) -> Exchange:
    return Exchange(site, Request(kind, {}, bytes(size_out)), Reply(True, {}, bytes(size_back)), 0.1)


def everything(folder: Path) -> Story:
    """Seven sites, each of them in another situation, while masks are asked."""
    names = ("north", "harbour", "university", "children", "east", "lakeside-women-and-children", "st-mary")
    story = Story(folder, *names)
    for name in names[:-1]:
        story.presence(name, "connected")
    story.stage("teachers", 3.2)
    story.stage("pictures", 12.0)
    story.stage("masks")
    story.accept("north", "harbour", "east")
    story.answer("north", 4, 4)
    story.answer("north", 1, 2, "test-stu")
    story.answer("harbour", 2, 4)
    story.fault("harbour", "rejected", "the answer belongs to another manifest or to other pictures")
    story.presence("university", "waiting", "not_approved")
    story.set_aside("children", "transferal", "too_many_pictures; ask the site")
    story.answer("east", 1, 4)
    story.presence("east", "away", "its connection is gone")
    story.accept("lakeside-women-and-children")
    story.answer("lakeside-women-and-children", 3, 4, kind="pictures")
    return story
