"""A site whose answers cannot be used: each kind once, over a real SuperLink, and the last one twice."""

import json
import os
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from nakt_fed.codec import encode
from nakt_fed.exchange import Reply, Request
from nakt_fed.flower_environment import free_port
from nakt_fed.processes import guarded
from nakt_fed.site.serve import make_private, open_site
from nakt_fed.site.site_file import load_site
from nakt_fed.site.supervise import app_environment, supernode_command
from tests.deployment.compare import oracle_of, stored
from tests.deployment.federation import Federation
from tests.deployment.hospitals import WIDTH
from tests.deployment.running import lines
from tests.nakt_fed.site.desk import served

pytestmark = [pytest.mark.slow, pytest.mark.soak, pytest.mark.timeout(300)]
OTHER = "another manifest or to other pictures"
FAULTS: dict[str, tuple[Callable[[Reply], Reply], str]] = {
    "garbage": (lambda good: replace(good, blob=b"garbage" * 50), "no coded masks"),
    "a wrong shape": (lambda good: replace(good, blob=encode(np.zeros((2, 16, 16), np.uint8))), "expected (2, 32, 32)"),
    "other pictures": (lambda good: replace(good, meta={**good.meta, "range": [0, 2]}), OTHER),
    "an old manifest": (lambda good: replace(good, meta={**good.meta, "manifest": "0" * 64}), OTHER),
    "cut": (lambda good: replace(good, blob=good.blob[:-1]), "cut short or have bytes too many"),
    "NaN": (lambda good: good, "bad_answer"),  # the teacher's; its own service finds it
    "garbage again and again": (lambda good: replace(good, blob=b"\0"), "no coded masks"),
}


class Lying:
    """bob's own service, whose answer to each chunk is another kind of fault: the first time, to the last chunk always."""

    def __init__(self, honest: Any) -> None:
        self.honest, self.asked = honest, Counter[int]()
        service = honest.inner.inner
        self.teacher = service.teacher
        service.__dict__["teacher"] = lambda pictures: self.teacher(pictures) * (np.nan if self.spoilt else 1)
        self.spoilt = False

    def handle(self, request: Request) -> Reply:
        if request.kind != "masks":
            return self._honest(request)
        number = int(json.loads(request.meta["order"])["meta"]["range"][0]) // 2
        kind, (change, _) = list(FAULTS.items())[number]
        self.asked[number] += 1
        first = self.asked[number] == 1
        self.spoilt = kind == "NaN" and first
        reply = self._honest(request)
        return change(reply) if first or number == len(FAULTS) - 1 else reply

    def _honest(self, request: Request) -> Reply:
        reply: Reply = self.honest.handle(request)
        return reply


@contextmanager
def lying_site(federation: Federation, name: str) -> Iterator[None]:
    """A real SuperNode with the site's own key, in front of a service that lies."""
    path = federation.site(name)
    raw = tomllib.loads(path.read_text())
    raw["teacher"] = {"network": "unet", "width": WIDTH, "checkpoint": "quick.safetensors"}
    path.write_text(tomli_w.dumps(raw))
    file = load_site(path)
    make_private(file.site.folder)
    home = federation.root / "flower"
    home.mkdir()
    node = supernode_command(file)
    node[-1] = str(free_port())
    env = app_environment(home, os.environ)
    with (
        served(Lying(open_site(file)), file.socket),
        (federation.root / "node.log").open("wb") as sink,
        guarded(node, env=env, sink=sink, cwd=Path("/")),
    ):
        yield


def test_every_kind_is_rejected_and_asked_once_more_then_the_site_is_set_aside(tmp_path: Path) -> None:
    """What was right the second time is kept, the other site finishes, and the reason is told."""
    with Federation(tmp_path / "f", pause=0.0) as federation:
        federation.start_coordinator()
        federation.start_sites("ann")
        study = federation.write_study("lies", pictures=2 * len(FAULTS), seed=30, round={"min_sites": 1})
        with lying_site(federation, "bob"):
            running = federation.run(study)
            running.wait_for_fusion(240)
            assert running.end() == 130
        outcomes = defaultdict[int, list[tuple[str, str]]](list)
        for line in lines(running.folder / "ledger.jsonl"):
            if (line["site"], line["kind"]) == ("bob", "masks"):
                outcomes[line["chunk"]].append((line["outcome"], line.get("reason", "")))
        for chunk, (kind, (_, reason)) in enumerate(FAULTS.items()):
            (first, told), (second, _) = outcomes[chunk]
            assert first == ("failed" if kind == "NaN" else "rejected"), kind
            assert reason in told, kind
            assert second == ("ok" if chunk < len(FAULTS) - 1 else "rejected"), kind
        [warning] = running.events("warning")
        assert "site bob is set aside (transferal): " in warning["message"]
        assert "no coded masks" in warning["message"]
        masks, oracle = stored(running.folder), stored(oracle_of(federation, "lies"))
        np.testing.assert_array_equal(masks["masks/ann"], oracle["masks/ann"])
        np.testing.assert_array_equal(masks["masks/bob"][:-2], oracle["masks/bob"][:-2])
        assert not masks["masks/bob"][-2:].any()
        np.testing.assert_array_equal(masks["pseudo"], masks["masks/ann"])
