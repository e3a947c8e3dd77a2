"""Which pictures have a salient target (Algorithm 1, lines 3 to 9): N ≥ α target pixels, and entropy E ≤ β bits."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nakt_fed.errors import FilterError
from nakt_fed.study.tables import FilterSpec
from nakt_fed.whole_file import write_csv

PAPER_SIZE = 384
Rule = Literal["", "few_targets", "high_entropy"]


@dataclass(frozen=True)
class Verdict:
    """What the filter says of one picture; `E` is None where every teacher answered binary (the rule does not apply).

    `sites`: how many sites have answered it; None where that was not noted.
    """

    id: str
    N: int
    E: float | None
    rule: Rule
    sites: int | None = None

    @property
    def kept(self) -> bool:
        return self.rule == ""


def levels(y: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The 256-level histogram of each pseudo mask: (n, H, W) uint8 -> (n, 256) counts. N and E both follow from it."""
    # Pillow counts bytes as they are; np.bincount, half as fast, first widens every pixel to 64 bits
    return np.array([Image.fromarray(mask).histogram() for mask in y], np.int64).reshape(-1, 256)


def target_pixels(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """N = pixels with y > 0.5, that is q ≥ 128. counts: (n, 256) from `levels` -> (n,)."""
    return counts[:, 128:].sum(axis=1)


def entropy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """E = −Σ p_b · log2 p_b in bits, 0 to 8. counts: (n, 256) from `levels` -> (n,)."""
    p = counts / counts.sum(axis=1, keepdims=True)
    return -(p * np.log2(p, where=p > 0, out=np.zeros_like(p))).sum(axis=1) + 0.0


def scaled_alpha(min_target_pixels: int, image_size: int) -> float:
    """α is given at 384×384 and scales with the area."""
    return min_target_pixels * image_size**2 / PAPER_SIZE**2


def judge(ids: Sequence[str], y: NDArray[np.uint8], alpha: float, beta: float, soft: bool = True) -> list[Verdict]:
    """Lines 3 to 9 for a chunk of pseudo masks (n, H, W) uint8. `soft`: at least one teacher answers softly.

    A picture that breaks both rules is filed under `few_targets`, the first that is tested.
    """
    counts = levels(y)
    bits: Iterable[float | None] = entropy(counts).tolist() if soft else [None] * len(y)
    return [
        Verdict(i, n, e, _rule(n, e, alpha, beta))
        for i, n, e in zip(ids, target_pixels(counts).tolist(), bits, strict=True)
    ]


def judge_again(verdicts: Iterable[Verdict], alpha: float, beta: float) -> list[Verdict]:
    """The same pictures under other thresholds: N and E do not depend on them."""
    return [replace(verdict, rule=_rule(verdict.N, verdict.E, alpha, beta)) for verdict in verdicts]


def _rule(n: int, e: float | None, alpha: float, beta: float) -> Rule:
    if n < alpha:
        return "few_targets"
    return "high_entropy" if e is not None and e > beta else ""


def demand_enough(verdicts: Sequence[Verdict], spec: FilterSpec, what: str = "") -> None:
    """Stop rather than train on almost nothing, and never loosen a threshold silently. `what` goes in front of the message.

    Raises:
        FilterError: fewer than `min_kept` pictures remain; the message shows the distribution and the remedies.
    """
    kept = sum(verdict.kept for verdict in verdicts)
    if kept >= spec.min_kept:
        return
    few = sum(verdict.rule == "few_targets" for verdict in verdicts)
    lines = [
        f"{what}only {kept} of {len(verdicts)} transferal pictures have a salient target; at least filter.min_kept = {spec.min_kept} are needed",
        f"  excluded: {few} with too few target pixels (min_target_pixels = {spec.min_target_pixels} at 384×384), "
        f"{len(verdicts) - kept - few} with an entropy over max_entropy = {spec.max_entropy:g} bits",
        *_entropy_lines([verdict for verdict in verdicts if verdict.rule != "few_targets" and verdict.E is not None]),
        "  remedies: train the teachers longer (soft answers have a high entropy), set filter.max_entropy to a value from the table,",
        "  take transferal pictures nearer to the sites', lower filter.min_kept, or set filter.enabled = false",
    ]
    raise FilterError("\n".join(lines))


def _entropy_lines(verdicts: Sequence[Verdict]) -> list[str]:
    """Quartiles of E, and how many pictures would stay at each β, among those with enough target pixels."""
    if not verdicts:
        return ["  no picture has enough target pixels: the teachers see no target in this transferal set"]
    bits = np.array([verdict.E for verdict in verdicts], dtype=float)
    quartiles = ", ".join(f"{value:.2f}" for value in np.percentile(bits, [0, 25, 50, 75, 100]))
    table = "   ".join(f"β {beta:g}: {int((bits <= beta).sum())}" for beta in np.arange(2, 8.5, 0.5))
    return [
        f"  entropy of the {len(bits)} others (min, quartiles, max): {quartiles} bits",
        f"  would stay at   {table}",
    ]


def write_filter(verdicts: Iterable[Verdict], path: Path) -> None:
    """filter.csv: id, N, E, kept, rule, sites; written whole or not at all."""
    rows = ([v.id, v.N, _bits(v.E), int(v.kept), v.rule, v.sites] for v in verdicts)
    write_csv(path, ["id", "N", "E", "kept", "rule", "sites"], rows)


def _bits(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def read_filter(path: Path) -> list[Verdict]:
    """What `write_filter` wrote."""
    with path.open(newline="", encoding="utf-8") as file:
        return [_verdict(row) for row in csv.DictReader(file)]


def _verdict(row: dict[str, str]) -> Verdict:
    sites = row.get("sites")  # an older run has no such column
    bits = float(row["E"]) if row["E"] else None
    return Verdict(row["id"], int(row["N"]), bits, cast(Rule, row["rule"]), int(sites) if sites else None)
