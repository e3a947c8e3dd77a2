"""What the filter did to the transferal set: counts (paper's Table 7), histograms (Figure 3), examples (Figure 1)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from nakt_fed.filtering import Rule, Verdict
from nakt_fed.report.pictures import Tile, data_uri
from nakt_fed.report.plots import histogram
from nakt_fed.report.run_data import FinishedRun, folder_of

RULES: dict[Rule, str] = {"": "Kept", "few_targets": "Too few target pixels", "high_entropy": "Entropy too high"}


@dataclass(frozen=True)
class Count:
    """Pictures of one transferal folder before and after the filter; `views` of `before` are derived pictures."""

    folder: str
    before: int
    views: int
    kept: int
    few_targets: int
    high_entropy: int


@dataclass(frozen=True)
class Histograms:
    """`entropy` is None where the rule does not apply: all teachers answer with binary masks."""

    folder: str
    pixels: Markup
    entropy: Markup | None


@dataclass(frozen=True)
class Example:
    """A picture and its pseudo mask, for one verdict."""

    rule: str
    why: str
    tiles: list[Tile]


def by_folder(run: FinishedRun) -> dict[str, list[Verdict]]:
    """Verdicts of each transferal folder, folders in the order of the study."""
    groups: dict[str, list[Verdict]] = {}
    for verdict in run.verdicts:
        groups.setdefault(folder_of(verdict.id), []).append(verdict)
    return groups


def counts(run: FinishedRun) -> list[Count]:
    """A row for each folder, and their sum when there are several."""
    groups = by_folder(run)
    rows = [_count(run, folder, verdicts) for folder, verdicts in groups.items()]
    return [*rows, _count(run, "All", run.verdicts)] if len(rows) > 1 else rows


def _count(run: FinishedRun, folder: str, verdicts: Sequence[Verdict]) -> Count:
    rules = [verdict.rule for verdict in verdicts]
    views = sum(run.is_view(verdict.id) for verdict in verdicts)
    return Count(folder, len(verdicts), views, rules.count(""), rules.count("few_targets"), rules.count("high_entropy"))


def histograms(run: FinishedRun) -> list[Histograms]:
    """N and E of every folder, thresholds drawn where the filter was on. All folders share their axes."""
    drawn = run.results["filter"] if run.results["filter"]["enabled"] else {}
    area = run.size**2
    # pictures without a target pixel have no logarithm: they stand at 0.5, in a bin of their own called 0
    pixel_edges = [0.35, 0.7, *np.geomspace(1, area, 33)]
    entropy_edges = np.linspace(0, 8, 33)  # quarters of a bit: the default threshold is an edge
    found = []
    for number, (folder, verdicts) in enumerate(by_folder(run).items()):
        pixels = histogram(
            f"{run.key}n{number}",
            f"Histogram of target pixels N in {folder}, {_spread(v.N for v in verdicts)}",
            [[max(v.N, 0.5) for v in verdicts if v.rule == rule] for rule in RULES],
            pixel_edges,
            drawn.get("alpha"),
            "target pixels N",
            log=True,
        )
        soft = [v for v in verdicts if v.E is not None]
        entropy = histogram(
            f"{run.key}e{number}",
            f"Histogram of entropy E in {folder}, {_spread(v.E or 0.0 for v in soft)}" if soft else "",
            [[v.E or 0.0 for v in soft if v.rule == rule] for rule in RULES],
            entropy_edges.tolist(),
            drawn.get("beta"),
            "entropy E, bits",
        )
        found.append(Histograms(folder, pixels, entropy if soft else None))
    return found


def _spread(values: Iterable[float]) -> str:
    low, middle, high = np.percentile(list(values), [25, 50, 75])
    return f"quartiles {low:.4g}, {middle:.4g} and {high:.4g}"


def examples(run: FinishedRun) -> list[Example]:
    """One picture for each verdict that occurs: the median one, an original rather than a view where there is one."""
    images, pseudo = run.store("pictures.zarr"), run.pseudo
    if images is None or pseudo is None:
        return []
    found = []
    for rule, name in RULES.items():
        verdict = typical(run, [verdict for verdict in run.verdicts if verdict.rule == rule])
        if verdict is None:
            continue
        row = run.rows[verdict.id]
        kind = "view of " if run.is_view(verdict.id) else ""
        picture, mask = (data_uri(np.asarray(stack[row])) for stack in (images["images"], pseudo))  # type: ignore[index]
        tiles = [
            Tile("picture", f"Transferal picture {verdict.id}", uri=picture),
            Tile("pseudo mask", f"Its pseudo mask: {why(verdict)}", uri=mask),
        ]
        found.append(Example(name, f"{kind}{verdict.id}: {why(verdict)}", tiles))
    return found


def typical(run: FinishedRun, verdicts: Sequence[Verdict]) -> Verdict | None:
    """The median in what decided: N for too few pixels, else E (N where there is no E)."""
    originals = [verdict for verdict in verdicts if not run.is_view(verdict.id)]
    pool = sorted(originals or verdicts, key=lambda v: (v.N if v.rule == "few_targets" or v.E is None else v.E, v.id))
    return pool[len(pool) // 2] if pool else None


def why(verdict: Verdict) -> str:
    """The two numbers that the filter looks at."""
    return f"N = {verdict.N:,} pixels" + ("" if verdict.E is None else f", E = {verdict.E:.2f} bits")
