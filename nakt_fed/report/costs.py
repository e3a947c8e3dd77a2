"""What the run cost: bytes on the wire against FedAvg, seconds per stage, and each site's part in the ledger."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from nakt_fed.report.run_data import FinishedRun

STAGES = {
    "teachers": "Teachers: loading or training",
    "pictures": "Preparing the pictures",
    "masks": "Asking the sites for masks",
    "fusion": "Fusion and filter",
    "student": "Training the student",
    "fine_tune": "Fine-tuning",
    "evaluation": "Evaluation on the test sets",
    "report": "Earlier reports",
}


@dataclass(frozen=True)
class Bar:
    """A number, and its share (0..1) of the largest as the length of its bar; `other`: not spent, compared with."""

    name: str
    value: float
    share: float
    other: bool = False


@dataclass(frozen=True)
class SiteSum:
    """A site's exchanges: masks of transferal and test pictures, bytes; `rate` in pictures per second of answering."""

    site: str
    chunks: int
    transferal: int
    tests: int
    bytes_out: int
    bytes_back: int
    rate: float | None
    faults: str


def stages(run: FinishedRun) -> list[Bar]:
    """Seconds per stage in the order of results.json."""
    seconds = {STAGES.get(name, name): float(value) for name, value in run.results["seconds"].items()}
    return _bars(seconds)


def traffic(run: FinishedRun) -> list[Bar]:
    """Bytes of this run, and of FedAvg with the same student and sites."""
    moved = run.results["bytes"]
    fedavg = run.results["fedavg_bytes"]["per_site"] * len(run.sites)
    *own, other = _bars(
        {"Pictures and manifests, out": moved["out"], "Masks, back": moved["back"], "For comparison, FedAvg": fedavg}
    )
    return [*own, replace(other, other=True)]


def _bars(values: dict[str, float]) -> list[Bar]:
    top = max(values.values(), default=0) or 1
    return [Bar(name, value, value / top) for name, value in values.items()]


def fedavg_ratio(run: FinishedRun) -> float | None:
    """How many times more FedAvg would have moved; None when nothing was moved."""
    moved = run.results["bytes"]["out"] + run.results["bytes"]["back"]
    return run.results["fedavg_bytes"]["per_site"] * len(run.sites) / moved if moved else None


def bits_per_pixel(run: FinishedRun) -> float:
    """Bits that a mask's pixel took on its way back."""
    return 8 * float(run.results["bytes"]["per_mask"]) / run.size**2


def site_sums(run: FinishedRun) -> list[SiteSum]:
    """The ledger, a line for each site in the order of the study; sites that were set aside come last."""
    names = dict.fromkeys([*run.sites, *(line["site"] for line in run.ledger)])
    return [_site_sum(name, [line for line in run.ledger if line["site"] == name]) for name in names]


def _site_sum(site: str, lines: list[dict[str, Any]]) -> SiteSum:
    answers = [line for line in lines if line["kind"] == "masks" and line["outcome"] == "ok"]
    pictures, seconds = sum(line["pictures"] for line in answers), sum(line["seconds"] for line in answers)
    transferal = sum(line["pictures"] for line in answers if line["set"] == "transferal")
    faults = Counter(
        f"{line['outcome']}: {line.get('reason') or 'no reason given'}" for line in lines if line["outcome"] != "ok"
    )
    return SiteSum(
        site,
        len(answers),
        transferal,
        pictures - transferal,
        sum(line["bytes_out"] for line in lines),
        sum(line["bytes_back"] for line in lines),
        pictures / seconds if seconds else None,
        "; ".join(f"{count} × {fault}" for fault, count in faults.items()),
    )
