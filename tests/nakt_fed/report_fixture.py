"""A finished run folder (DESIGN §6) made up in a moment, without torch: lesions are ellipses, seen moved and blurred.

`report_fixture` is no test; test_report.py and test_schemas.py build their runs with it.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from nakt_fed.data.pictures import content_hash
from nakt_fed.exchange import Exchange, Reply, Request
from nakt_fed.filtering import Verdict, judge, scaled_alpha, write_filter
from nakt_fed.fusion import fixed_point, fuse
from nakt_fed.ledger import Ledger
from nakt_fed.manifest import Manifest
from nakt_fed.metrics import dice, ktc, summary
from nakt_fed.store import ChunkStore, create_stack
from nakt_fed.study import Study
from nakt_fed.study.file import dump_study, parse_study
from nakt_fed.views import ViewScheme

Stack = NDArray[np.uint8]
CHUNK = 16
SHIFT = {"logiq7": 2.0, "logiq5": 3.0, "busi": 4.0, "student": 1.2, "student+fine_tune": 0.7}
"""How far, in pixels, a model's mask lies beside the truth: the made-up order of quality."""


@dataclass(frozen=True)
class Kind:
    """What a made-up run has and what it lacks."""

    name: str = "breast"
    sites: tuple[str, ...] = ("logiq7", "logiq5", "busi")
    folders: tuple[str, ...] = ("thyroid-ddti", "nerve-usgra")
    tests: tuple[str, ...] = ("stu", "udiat")
    held_out: float = 0.2
    fine_tune: bool = True
    filter: bool = True
    binary: bool = False
    checkpoints: bool = False
    size: int = 64
    pictures: int = 12
    views: int = 3
    tested: int = 10


def study_of(kind: Kind) -> Study:
    """The resolved study."""
    networks: list[dict[str, Any]] = [
        {"network": "unet", "width": 16},
        {"network": "sdunet", "width": 16},
        {"network": "panoptic_fpn", "encoder": "resnet18"},
    ]
    loaded = {"checkpoint": "teacher.safetensors"} if kind.checkpoints else {}
    raw = {
        "study": {"name": kind.name, "seed": 7, "image_size": kind.size},
        "site": [
            {
                "name": name,
                "images": f"data/{name}/images",
                "masks": f"data/{name}/masks",
                "test_share": kind.held_out,
                "teacher": {**networks[i % 3], "binary": kind.binary, **loaded},
            }
            for i, name in enumerate(kind.sites)
        ],
        "transferal": {"images": [f"data/{folder}/images" for folder in kind.folders], "views": kind.views},
        "filter": {"enabled": kind.filter, "min_kept": 1},
        "student": {"network": "deeplabv3plus", "encoder": "resnet18"},
        "test": [{"name": name, "images": f"data/{name}/images", "masks": f"data/{name}/masks"} for name in kind.tests],
        **({"fine_tune": {"images": "data/few/images", "masks": "data/few/masks"}} if kind.fine_tune else {}),
    }
    return parse_study(raw, Path("/studies"))


def lesions(count: int, size: int, seed: int) -> tuple[Stack, Stack]:
    """Speckled pictures (count, size, size) and their masks, 0 or 255; every sixth has no lesion."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((count, size, size), np.uint8)
    for i in range(count):
        cx, cy, a, b = rng.uniform([0.3, 0.3, 0.08, 0.06], [0.7, 0.7, 0.25, 0.2]) * size
        masks[i][((x - cx) / a) ** 2 + ((y - cy) / b) ** 2 < 1] = 255 if i % 6 != 5 else 0
    speckle = gaussian_filter(rng.gamma(2, 45, masks.shape), (0, 0.7, 0.7))
    return np.clip(speckle * np.where(masks > 0, 0.35, 1), 0, 255).astype(np.uint8), masks


def seen(truth: Stack, model: str, binary: bool, seed: int) -> Stack:
    """What a model answers: the truth moved, blurred and made unsure, (N, H, W) uint8."""
    shift, rng = SHIFT.get(model, 4.0), np.random.default_rng(seed)
    out = np.empty_like(truth)
    for i, mask in enumerate(truth):
        moved = np.roll(mask, np.rint(rng.normal(0, shift, 2)).astype(int), (0, 1))
        sure = rng.uniform(0.5, 1)
        out[i] = gaussian_filter(moved * sure, rng.uniform(0.4, 2.5))
    return np.where(out > 127, 255, 0).astype(np.uint8) if binary else out


def build_run(parent: Path, kind: Kind = Kind()) -> Path:
    """Make `parent/<study>-20260105T142233Z` and return it."""
    folder, study = parent / f"{kind.name}-20260105T142233Z", study_of(kind)
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(dump_study(study), encoding="utf-8")
    verdicts = _transferal(folder, kind)
    scores = {name: _test(folder, kind, name, number) for number, name in enumerate(study.test_names)}
    _checkpoint(folder / "student", "student", 40)
    if kind.fine_tune:
        _checkpoint(folder / "fine_tune" / "student", "student+fine_tune", 50)
    for name in () if kind.checkpoints else kind.sites:
        _checkpoint(folder / "sites" / name / "teacher", f"teacher:{name}", 20)
    results = _results(study, kind, verdicts, scores, Ledger(folder / "ledger.jsonl").lines())
    (folder / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return folder


def _transferal(folder: Path, kind: Kind) -> list[Verdict]:
    """pictures.zarr, masks.zarr, manifest.json, ledger.jsonl and filter.csv."""
    originals = [f"{name}/{number:04d}" for name in kind.folders for number in range(kind.pictures)]
    ids = [*originals, *(f"{origin}~{view:03d}" for view in range(1, kind.views + 1) for origin in originals)]
    images, truth = lesions(len(ids), kind.size, seed=1)
    create_stack(zarr.open_group(str(folder / "pictures.zarr"), mode="w"), "images", len(ids), kind.size, CHUNK)[:] = (
        images
    )
    scheme = ViewScheme(7, kind.views, 0.7) if kind.views else None
    manifest = Manifest(tuple(ids), tuple(content_hash(image) for image in images), kind.size, scheme)
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    soft = _answers(folder, "transferal", kind, truth, 2)
    weights = fixed_point(dict.fromkeys(kind.sites, 1.0))
    store = ChunkStore(folder / "masks.zarr", len(ids), kind.size, CHUNK)
    pseudo = fuse(soft, weights)
    create_stack(store.group, "pseudo", len(ids), kind.size, CHUNK)[:] = pseudo
    alpha, beta = (scaled_alpha(256, kind.size), 2.5) if kind.filter else (0.0, 8.0)
    verdicts = judge(ids, pseudo, alpha, beta, soft=not kind.binary)
    write_filter(verdicts, folder / "filter.csv")
    return verdicts


def _answers(run: Path, shared: str, kind: Kind, truth: Stack, seed: int) -> dict[str, Stack]:
    """Every site's masks in the set's store, and the exchanges in the ledger."""
    folder = run if shared == "transferal" else run / "tests" / shared.removeprefix("test-")
    store, ledger = ChunkStore(folder / "masks.zarr", len(truth), kind.size, CHUNK), Ledger(run / "ledger.jsonl")
    soft = {}
    for number, name in enumerate(kind.sites):
        soft[name] = seen(truth, name, kind.binary, seed * 100 + number)
        store.write_all(name, soft[name])
        ledger.write(Exchange(name, Request("offer"), Reply(True), 0.01), shared, None, len(truth), "ok")
        for chunk, rows in enumerate(store.chunks):
            sent = Exchange(name, Request("pictures", blob=bytes(len(rows) * 2900)), Reply(True), 0.05)
            ledger.write(sent, shared, chunk, len(rows), "ok")
            back = Exchange(
                name, Request("masks"), Reply(True, blob=bytes(len(rows) * 700)), len(rows) / (40 + 9 * number)
            )
            ledger.write(back, shared, chunk, len(rows), "ok")
    if shared == "transferal":
        lost = Exchange(kind.sites[-1], Request("masks"), Reply(False), 0.4)
        ledger.write(lost, shared, 0, CHUNK, "rejected", "bad_answer")
    return soft


def _test(run: Path, kind: Kind, name: str, number: int) -> dict[str, dict[str, float]]:
    """tests/<name>/, and the Dice of every model per picture."""
    folder = run / "tests" / name
    images, truth = lesions(kind.tested, kind.size, seed=10 + number)
    ids = [f"{name}/case {picture:03d}" for picture in range(len(images))]
    group = zarr.open_group(str(folder / "pictures.zarr"), mode="w")
    for key, stack in (("images", images), ("truth", truth)):
        create_stack(group, key, len(ids), kind.size, CHUNK)[:] = stack
    group.attrs["ids"] = ids
    (folder / "manifest.json").write_text(
        Manifest(tuple(ids), tuple(map(content_hash, images)), kind.size).to_json(), encoding="utf-8"
    )
    soft = _answers(run, f"test-{name}", kind, truth, 20 + number)
    students = ("student", *(("student+fine_tune",) if kind.fine_tune else ()))
    answers = {
        "ensemble": fuse(soft, fixed_point(dict.fromkeys(soft, 1.0))),
        **{s: seen(truth, s, False, 50 + number) for s in students},
    }
    store = ChunkStore(folder / "masks.zarr", len(ids), kind.size, CHUNK)
    for model, stack in answers.items():
        store.write_all(model, stack)
    masks = {f"teacher:{site}": stack for site, stack in soft.items()} | answers
    return {
        model: dict(zip(ids, dice(stack > 127, truth > 127).round(6).tolist(), strict=True))
        for model, stack in masks.items()
    }


def _checkpoint(stem: Path, role: str, epochs: int) -> None:
    """Weights (two bytes of them), their JSON, and history.csv beside."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    stem.with_suffix(".safetensors").write_bytes(b"{}")
    card = {
        "version": 1,
        "network": {"network": "deeplabv3plus", "width": None, "encoder": "resnet18", "classes": 1},
        "preprocessing": "gray-square-bilinear/1",
        "weights_sha256": hashlib.sha256(b"{}").hexdigest(),
        "provenance": {"role": role, "epochs": epochs},
    }
    stem.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    rng, lines = np.random.default_rng(len(role)), ["epoch,loss,validation_dice,learning_rate,seconds"]
    for epoch in range(1, epochs + 1):
        score = "" if role == "student+fine_tune" else f"{0.8 - 0.6 * np.exp(-epoch / 6) + rng.normal(0, 0.02):.6f}"
        lines.append(f"{epoch},{0.4 + 1.2 * np.exp(-epoch / 7) + rng.normal(0, 0.02):.6f},{score},0.001,1.25")
    (stem.parent / "history.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _results(
    study: Study,
    kind: Kind,
    verdicts: list[Verdict],
    scores: dict[str, dict[str, dict[str, float]]],
    ledger: list[dict[str, Any]],
) -> dict[str, Any]:
    """results.json as nakt_fed/results.py writes it."""
    rules = [verdict.rule for verdict in verdicts]
    models = list(next(iter(scores.values()), {}))
    table = {
        m: {t: {**summary(by[m].values())._asdict(), "per_image": by[m]} for t, by in scores.items()} for m in models
    }
    masks = [line for line in ledger if line["kind"] == "masks" and line["outcome"] == "ok"]
    card = {
        "network": "unet",
        "parameters": 1_944_049,
        "n_images": 144,
        "validation_dice": 0.712,
        "binary": kind.binary,
    }
    return {
        "version": 1,
        "study": kind.name,
        "seed": 7,
        "sites": [{"name": name, **card} for name in kind.sites],
        "set_aside": {},
        "transferal": {
            "images": len(verdicts),
            "originals": len(kind.folders) * kind.pictures,
            "views": len(kind.folders) * kind.pictures * kind.views,
            "kept": rules.count(""),
            "excluded": {"few_targets": rules.count("few_targets"), "high_entropy": rules.count("high_entropy")},
        },
        "weights": {site: weight / 65536 for site, weight in fixed_point(dict.fromkeys(kind.sites, 1.0)).items()},
        "answered": dict.fromkeys(kind.sites, len(verdicts)),
        "dice": table,
        "at_sites": {
            kind.sites[0]: {
                "n": 1234,
                "student": {"mean": 0.7654, "std": 0.1111},
                "teacher": {"mean": 0.6543, "std": 0.2222},
            },
            kind.sites[-1]: {"refused": "no_evaluation"},
        },
        "personalised": _personalised(kind.sites) if kind.fine_tune else {},
        "ktc": {test: _ktc({model: table[model][test]["mean"] for model in models}) for test in scores},
        "bytes": {
            "out": sum(line["bytes_out"] for line in ledger),
            "back": sum(line["bytes_back"] for line in ledger),
            "per_mask": sum(line["bytes_back"] for line in masks) / sum(line["pictures"] for line in masks),
            "transferal_back": sum(line["bytes_back"] for line in masks if line["set"] == "transferal"),
        },
        "seconds": {
            "teachers": 612.4,
            "pictures": 8.1,
            "masks": 96.2,
            "fusion": 2.7,
            "student": 431.0,
            "fine_tune": 38.5,
            "evaluation": 11.3,
        },
        "filter": {"enabled": kind.filter, "alpha": scaled_alpha(256, kind.size), "beta": 2.5, "image_size": kind.size},
        "fedavg_bytes": {
            "per_site": 986_000_000,
            "formula": "10 rounds × 2 ways × 4 bytes × 12325000 weights of the student",
        },
        "overlaps": dict.fromkeys(kind.sites, 0),
        "test_rule": "threshold 0.5; both masks empty: 1, one empty: 0; std over pictures",
        "settings": study.model_dump(mode="json"),
        "environment": {"nakt-fed": "0.1.0", "torch": "2.8.0", "numpy": "2.4.6"},
    }


def _ktc(means: dict[str, float]) -> dict[str, float | None]:
    student = max(value for model, value in means.items() if model.startswith("student"))
    teacher = max(value for model, value in means.items() if model.startswith("teacher:"))
    against = {"best_teacher": teacher, "ensemble": means["ensemble"]}
    return {name: ktc(student, value) if value > 0 else None for name, value in against.items()}


def _personalised(sites: tuple[str, ...]) -> dict[str, Any]:
    scores = {"teacher": (0.6123, 0.2222), "student": (0.7234, 0.1111), "personalised": (0.8349, 0.0987)}
    told = {name: {"mean": mean, "std": std} for name, (mean, std) in scores.items()}
    return {sites[0]: {"n": 321, **told}, sites[-1]: {"refused": "no_personalisation"}}
