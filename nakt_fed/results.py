"""results.json: every number of the report, for other tools (DESIGN §6)."""

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nakt_fed.answered import pictures_answered
from nakt_fed.at_sites import Told
from nakt_fed.classes import ONE, class_folder, untitled
from nakt_fed.cost import bytes_moved, fedavg_bytes, stage_seconds
from nakt_fed.filtering import Rule, read_filter, scaled_alpha
from nakt_fed.metrics import ktc, summary
from nakt_fed.suspects import read_suspects
from nakt_fed.whole_file import write_json

if TYPE_CHECKING:
    from nakt_fed.run import Run
    from nakt_fed.run_tests import DiceTable

VERSION = 1
TEST_RULE = "threshold 0.5; both masks empty: 1, one empty: 0; std over pictures"
PACKAGES = ("nakt-fed", "torch", "flwr", "ray", "segmentation-models-pytorch", "numpy", "zarr", "imagecodecs", "pillow")


def write_results(run: "Run", dice: "DiceTable", at_sites: Told, personalised: Told) -> Path:
    """Write results.json of a run, whole or not at all; `at_sites` and `personalised` are what the sites told of the student."""
    return write_json(run.folder / "results.json", _results(run, dice, at_sites, personalised))


def _results(run: "Run", dice: "DiceTable", at_sites: Told, personalised: Told) -> dict[str, Any]:
    study = run.study
    return {
        "version": VERSION,
        "study": study.study.name,
        "seed": study.study.seed,
        "sites": [{"name": name, **run.cards[name]} for name in run.round.active],
        "set_aside": run.round.set_aside,
        "transferal": _transferal(run),
        "weights": _weights(run),
        **({"classes": _classes(run)} if run.study.classes != ONE else {}),
        "suspects": {
            site: f"{label}: {words}" if label else words
            for label in run.study.classes
            for site, words in read_suspects(class_folder(run.folder, label)).items()
        },
        "answered": pictures_answered(run.transferal.masks, run.sites.names),
        "dice": {
            model: {test: _row(run, test, values) for test, values in tests.items()} for model, tests in dice.items()
        },
        "at_sites": at_sites,
        "personalised": personalised,
        "ktc": _ktc(dice),
        "bytes": bytes_moved(run.round.ledger.lines(), study.asked),
        "seconds": stage_seconds(run.folder),
        "filter": {
            "enabled": study.filter.enabled,
            "alpha": scaled_alpha(study.filter.min_target_pixels, study.study.image_size),
            "beta": study.filter.max_entropy,
            "image_size": study.study.image_size,
        },
        "fedavg_bytes": fedavg_bytes(run.folder, study.student.spec()),
        "overlaps": run.round.overlaps,
        "test_rule": TEST_RULE,
        "settings": study.model_dump(mode="json"),
        "environment": _environment(),
    }


def _weights(run: "Run", label: str = "") -> dict[str, float | None]:
    """None where a site's weight differs from picture to picture or from class to class, or there is none."""
    if label not in run.combiners:
        return dict.fromkeys(run.counted)
    names = run.knowing(run.counted, label)
    weights = run.combiners[label].of(names).weights
    return {site: weights[site] / 65536 if weights else None for site in names}


def _classes(run: "Run") -> dict[str, Any]:
    """What stands at the top for a study with one class, per class."""
    return {label: {"weights": _weights(run, label), **_counts(_rules(run, label))} for label in run.study.classes}


def _row(run: "Run", test: str, values: Any) -> dict[str, Any]:
    ids = run.tests[untitled(test)[0]].manifest.ids
    return {**summary(values)._asdict(), "per_image": dict(zip(ids, np.round(values, 6).tolist(), strict=True))}


def _transferal(run: "Run") -> dict[str, Any]:
    rules = [_any(each) for each in zip(*(_rules(run, label) for label in run.study.classes), strict=True)]
    originals = run.transferal.manifest.originals
    return {"images": len(rules), "originals": originals, "views": len(rules) - originals, **_counts(rules)}


def _rules(run: "Run", label: str) -> list[Rule]:
    return [verdict.rule for verdict in read_filter(class_folder(run.folder, label) / "filter.csv")]


def _any(rules: Sequence[Rule]) -> Rule:
    """Of a picture that any class keeps: kept; else the rule that came nearest to keeping it."""
    return next(rule for rule in ("", "high_entropy", "few_targets") if rule in rules)


def _counts(rules: Sequence[Rule]) -> dict[str, Any]:
    excluded = {rule: rules.count(rule) for rule in ("few_targets", "high_entropy")}
    return {"kept": rules.count(""), "excluded": excluded}


def _ktc(dice: "DiceTable") -> dict[str, dict[str, float | None]]:
    """KTC of the transferal set per test set: 100 × student ÷ best teacher, and ÷ ensemble (paper, section 5)."""
    means = {model: {test: float(values.mean()) for test, values in tests.items()} for model, tests in dice.items()}
    table = {}
    for test in means.get("student", {}):
        best_teacher = max(row[test] for model, row in means.items() if model.startswith("teacher:") and test in row)
        against = {"best_teacher": best_teacher, "ensemble": means["ensemble"][test]}
        table[test] = {
            name: ktc(means["student"][test], value) if value > 0 else None for name, value in against.items()
        }
    return table


def _environment() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
