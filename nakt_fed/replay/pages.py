"""The comparison of a sweep's rows: sweep.html and tables, for pseudo masks and for students (`nakt_fed/statistics`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nakt_fed.replay.rows import Row, lists_of
from nakt_fed.replay.stored import StoredRun
from nakt_fed.report.sweep_page import Shown, write_sweep
from nakt_fed.statistics.leaderboard import leaderboard
from nakt_fed.statistics.rows import Block, block
from nakt_fed.statistics.rows import Row as Checked
from nakt_fed.store import open_group

PICTURES = 6
"""Test pictures that are shown under every scheme: those on which the schemes differ most."""


def write_pages(run: StoredRun, rows: Sequence[Row], fused: Mapping[str, Path], folder: Path) -> list[Path]:
    """masks/sweep.html and students/sweep.html in `folder`, of each kind of which there are two cells and test pictures.

    Args:
        fused: weighting, as the rows name it -> folder with its fused masks (`fuse_again`).
    """
    return [_page(run, kind, part, fused, folder) for kind, part in lists_of(rows).items() if _comparable(part)]


def _comparable(rows: Sequence[Row]) -> bool:
    seeds: dict[str, set[int]] = {}
    for row in rows:
        seeds.setdefault(row["cell"], set()).add(row["seed"])
    return len(seeds) > 1 and bool(set.intersection(*seeds.values())) and all(row["per_image"] for row in rows)


def _page(run: StoredRun, kind: str, rows: Sequence[Row], fused: Mapping[str, Path], folder: Path) -> Path:
    found = block([Checked.model_validate(row) for row in rows])
    shown = _shown(run, found, fused) if kind == "masks" else []
    title = f"{run.study.study.name}: {'pseudo masks' if kind == 'masks' else 'students'}"
    return write_sweep(leaderboard(found, seed=run.study.study.seed), folder / kind, title=title, shown=shown)


def _shown(run: StoredRun, found: Block, fused: Mapping[str, Path]) -> list[Shown]:
    """A site's held-out pictures are private: they are shown on the machine that has them, never named."""
    own = {site.name for site in run.study.site if site.test_share}
    groups: dict[str, Any] = {cell: open_group(fused[cell] / "masks.zarr") for cell in found.cells}
    shown = []
    for column in np.argsort(-found.per_picture.std(axis=0), kind="stable")[:PICTURES]:
        name, _, picture = found.pictures[column].partition("/")
        shared = run.tests[name]
        row = shared.manifest.ids.index(picture)
        masks = {cell: np.asarray(group[f"tests/{name}"][row]) for cell, group in groups.items()}
        title = name if name in own else f"{name}: {picture}"
        shown.append(Shown(title, np.asarray(shared.images[row]), shared.truth[row], masks))
    return shown
