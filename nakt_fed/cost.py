"""What a run cost: bytes that crossed the network, seconds per stage, and what federated averaging would have moved."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.classes import ONE
from nakt_fed.events import follow
from nakt_fed.recipe import NetworkSpec

FEDAVG_ROUNDS = 10


def bytes_moved(lines: list[dict[str, Any]], asked: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What crossed the network by the ledger's lines. `asked`: the classes that each site answers, a mask each, where there are several."""
    masks = [line for line in lines if line["kind"] == "masks" and line["outcome"] == "ok"]
    count = sum(line["pictures"] * len(asked.get(line["site"], ONE)) for line in masks)
    back = sum(line["bytes_back"] for line in masks)
    return {
        "out": sum(line["bytes_out"] for line in lines),
        "back": sum(line["bytes_back"] for line in lines),
        "per_mask": back / count if count else 0.0,
        "transferal_back": sum(line["bytes_back"] for line in masks if line["set"] == "transferal"),
    }


def stage_seconds(folder: Path) -> dict[str, float]:
    """Seconds per stage, summed over all starts of the run."""
    total: dict[str, float] = defaultdict(float)
    for event in follow(folder / "events.jsonl", stop=lambda: True):
        if event["kind"] == "stage" and event["state"] == "done":
            total[event["name"]] += event["seconds"]
    return {name: round(value, 3) for name, value in total.items()}


def fedavg_bytes(run: Path, student: NetworkSpec) -> Mapping[str, Any]:
    """What averaging the student's weights would have moved per site."""
    model, _ = load_checkpoint(run / "student.safetensors", expect=student)
    parameters = sum(value.numel() for value in model.state_dict().values())
    formula = f"{FEDAVG_ROUNDS} rounds × 2 ways × 4 bytes × {parameters} weights of the student"
    return {"per_site": FEDAVG_ROUNDS * 2 * 4 * parameters, "formula": formula}
