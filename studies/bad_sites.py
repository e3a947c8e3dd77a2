"""What bad sites do to the pseudo masks, under every way of combining them (docs/weighting.md). No site is asked.

    python studies/bad_sites.py RUN [RUN ...] --out FOLDER [--weightings uniform robust ...] [--attacks blank ...] [--at-most N]

The stored answers of some sites, to the transferal pictures (without views) and to the test sets, are replaced by those of an
attack; then the answers are combined and measured on the test sets. For 1 to ⌊(K−1)/2⌋ bad sites, every choice of them. Leaves

cells.csv      a row per run, weighting, attack and choice of bad sites: Dice, points lost against the same weighting without an attack,
               points below `uniform` without one
table.md       the last: mean and worst over runs and choices
clean.json, attacked.json   for `nakt compare`: Dice per picture and seed of every weighting, without an attack and as the mean over
               all attacks with the most bad sites

`honest` is the plain mean of the sites that are not bad.
"""

import argparse
import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nakt_fed.attacks import ATTACKS, attacked
from nakt_fed.contributions.gather import originals
from nakt_fed.metrics import dice
from nakt_fed.replay.stored import StoredRun
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings import BUILT_IN
from nakt_fed.weightings.bound import Combiner

Masks = NDArray[np.uint8]
Answers = dict[str, Masks]
LEFT_OUT = {"fixed", "learned"}
"""Weights by hand know the bad site, and weights that are learned here would be measured on what they have seen."""


@dataclass(frozen=True)
class Held:
    """A run's answers in memory: per picture set every site's masks, and the truth of the test sets."""

    run: StoredRun
    shared: Answers
    tests: dict[str, Answers]
    truth: dict[str, NDArray[np.bool_]]

    @classmethod
    def of(cls, folder: Path) -> "Held":
        run = StoredRun(folder)
        chunks = list(originals(run))
        shared = {site: np.concatenate([chunk[site] for chunk in chunks]) for site in run.active}
        tests = {name: {site: s.masks.all(site) for site in run.active} for name, s in run.tests.items()}
        return cls(run, shared, tests, {name: s.truth > 127 for name, s in run.tests.items()})

    def under(self, attack: str, bad: tuple[str, ...]) -> "Held":
        """The same with these sites under an attack."""
        seed = self.run.study.study.seed

        def sent(name: str, answers: Answers) -> Answers:
            ids = [f"{name} {row}" for row in range(len(next(iter(answers.values()))))]
            return answers | {site: attacked(attack, answers[site], ids, seed) for site in bad}

        tests = {name: sent(name, answers) for name, answers in self.tests.items()}
        return Held(self.run, sent("transferal", self.shared), tests, self.truth)

    def dice(self, weighting: str, sites: tuple[str, ...]) -> dict[str, float]:
        """Of the pseudo masks, {"<test set>/<picture>": fraction}."""
        cards = {site: self.run.cards[site] for site in sites}
        combine = Combiner(FusionSpec(weighting=weighting), cards, lambda: _Kept({s: self.shared[s] for s in sites}))
        found: dict[str, float] = {}
        for name, answers in self.tests.items():
            values = dice(combine({s: answers[s] for s in sites}) > 127, self.truth[name])
            ids = self.run.tests[name].manifest.ids
            found |= {f"{name}/{i}": float(value) for i, value in zip(ids, values, strict=True)}
        return found


def points(per_image: Mapping[str, float]) -> float:
    """Mean over the test sets of their mean Dice, in %."""
    sets: dict[str, list[float]] = {}
    for picture, value in per_image.items():
        sets.setdefault(picture.partition("/")[0], []).append(value)
    return 100 * fmean(map(fmean, sets.values()))


@dataclass(frozen=True)
class _Kept:
    """`weightings.scheme.Stored` of one chunk."""

    shared: Answers

    def chunks(self) -> Iterator[Mapping[str, Masks]]:
        yield self.shared

    def annotated(self) -> Iterator[Any]:
        raise AssertionError("no weighting here learns from annotated pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description="Bad sites against every way of combining.")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weightings", nargs="+", default=[name for name in BUILT_IN if name not in LEFT_OUT])
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--at-most", type=int, help="bad sites; ⌊(K−1)/2⌋ by default")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [row for run in options.runs for row in cells(Held.of(run), options)]
    with (options.out / "cells.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [key for key in rows[0] if key != "per_image"], extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)
    for name, most in {"clean": 0, "attacked": max(row["bad"] for row in rows)}.items():
        (options.out / f"{name}.json").write_text(json.dumps(comparable(rows, most)), encoding="utf-8")
    (options.out / "table.md").write_text(markdown(rows), encoding="utf-8")
    print(markdown(rows))


def cells(held: Held, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Every weighting under every attack, every choice of bad sites."""
    sites = tuple(held.run.active)
    clean = {name: held.dice(name, sites) for name in options.weightings}
    uniform = held.dice("uniform", sites)
    for name, found in clean.items():
        yield _row(held, name, "", (), found, found, uniform)
    for count in range(1, (options.at_most or (len(sites) - 1) // 2) + 1):
        for bad in combinations(sites, count):
            best = held.dice("uniform", tuple(site for site in sites if site not in bad))
            for attack in options.attacks:
                attacked_run = held.under(attack, bad)
                yield _row(held, "honest", attack, bad, best, uniform, uniform)
                for name in options.weightings:
                    yield _row(held, name, attack, bad, attacked_run.dice(name, sites), clean[name], uniform)
            print(f"{held.run.folder.name}: {', '.join(bad)}", flush=True)


def _row(
    held: Held,
    weighting: str,
    attack: str,
    bad: tuple[str, ...],
    found: dict[str, float],
    clean: dict[str, float],
    uniform: dict[str, float],
) -> dict[str, Any]:
    return {
        "run": held.run.folder.name,
        "seed": held.run.study.study.seed,
        "weighting": weighting,
        "attack": attack,
        "bad": len(bad),
        "sites": " ".join(bad),
        "dice": round(points(found), 3),
        "lost": round(points(clean) - points(found), 3),
        "below_uniform": round(points(uniform) - points(found), 3),
        "per_image": found,
    }


def comparable(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Rows for `nakt compare` of the cells with `most` bad sites: per weighting and seed the mean over them, picture by picture."""
    groups: dict[tuple[str, int], list[dict[str, float]]] = {}
    for row in rows:
        if row["bad"] == most and row["weighting"] != "honest":
            groups.setdefault((row["weighting"], row["seed"]), []).append(row["per_image"])
    return [
        {
            "cell": name,
            "settings": {"bad": most},
            "seed": seed,
            "per_image": {i: fmean(f[i] for f in found) for i in found[0]},
        }
        for (name, seed), found in groups.items()
    ]


def markdown(rows: list[dict[str, Any]]) -> str:
    """Points below `uniform` without an attack, mean (worst), for each number of bad sites: a row per weighting, a column per attack."""
    attacks = list(dict.fromkeys(row["attack"] for row in rows if row["attack"]))
    names = list(dict.fromkeys(row["weighting"] for row in rows))
    lines = []
    for count in sorted({row["bad"] for row in rows} - {0}):
        lines += [
            f"\n{count} bad:\n",
            f"| weighting | none | {' | '.join(attacks)} |",
            "|---|" + "---:|" * (len(attacks) + 1),
        ]
        for name in names:
            clean = [row["dice"] for row in rows if row["weighting"] == name and not row["attack"]]
            found = [_below(rows, name, attack, count) for attack in attacks]
            lines.append(f"| {name} | {f'{fmean(clean):.1f}' if clean else ''} | {' | '.join(found)} |")
    return "\n".join(lines)


def _below(rows: list[dict[str, Any]], weighting: str, attack: str, count: int) -> str:
    values = [r["below_uniform"] for r in rows if (r["weighting"], r["attack"], r["bad"]) == (weighting, attack, count)]
    return f"{fmean(values):z.1f} ({max(values):z.1f})" if values else ""


if __name__ == "__main__":
    main()
