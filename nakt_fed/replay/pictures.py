"""The pseudo-annotated set of one student: which of the answered pictures, filtered and sharpened in which way."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import zarr

from nakt_fed.filtering import Verdict, judge_again, scaled_alpha
from nakt_fed.fusion import sharpen
from nakt_fed.manifest import Manifest
from nakt_fed.render import Recipe
from nakt_fed.replay.stored import StoredRun
from nakt_fed.replay.sweep_file import Variant
from nakt_fed.store import PseudoSet
from nakt_fed.study.tables import FilterSpec

BLOCK = 64


def filtered(verdicts: list[Verdict], spec: FilterSpec, image_size: int) -> list[Verdict]:
    """The same N and E under other thresholds."""
    if not spec.enabled:
        return judge_again(verdicts, 0.0, 8.0)
    alpha = scaled_alpha(spec.min_target_pixels, image_size)
    return judge_again(verdicts, alpha, spec.max_entropy)


def write_pseudo_set(
    run: StoredRun, pseudo: "zarr.Array", verdicts: list[Verdict], variant: Variant, temperature: float, place: Path
) -> int:
    """The kept ones of the pictures that the variant wants, with their pseudo masks; returns how many."""
    rows = [row for row in wanted(run.transferal.manifest, variant) if verdicts[row].kept]
    out = PseudoSet(place, run.study.study.image_size, BLOCK, [verdicts[row].id for row in rows])
    images = run.transferal.images
    for start in range(0, len(rows), BLOCK):
        part = np.array(rows[start : start + BLOCK])
        masks = np.asarray(pseudo.oindex[part])
        out.add(np.asarray(images.oindex[part]), sharpen(masks, temperature))
    out.close("replay")
    return len(rows)


def wanted(manifest: Manifest, variant: Variant) -> Iterator[int]:
    """The rows of the originals, and of the first views of the variant's kinds of each."""
    if variant.originals:
        yield from range(manifest.originals)
    scheme, names = manifest.views, manifest.ids[: manifest.originals]
    for i in range(len(names) if scheme else 0):
        assert scheme is not None
        of_kind = (k for k in range(scheme.per_picture) if _kind(scheme.recipe(names, i, k)) in variant.kinds)
        yield from (manifest.originals + i * scheme.per_picture + k for k in islice(of_kind, variant.views))


def _kind(recipe: Recipe) -> str:
    if recipe.partner is None:
        return "plain"
    return "blend" if recipe.box is None else "box"
