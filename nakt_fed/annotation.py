"""The stored answers become the pseudo-annotated set: fused, filtered, and what is kept laid side by side for the student."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from nakt_fed.answered import ChunkSites
from nakt_fed.filtering import Verdict, demand_enough, read_filter, scaled_alpha, write_filter
from nakt_fed.fusion import sharpen
from nakt_fed.nakt import Masks, pseudo_annotate
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import PseudoSet, create_stack
from nakt_fed.study import Study


@dataclass(frozen=True)
class StoredChunk:
    """x: chunk `number` of the transferal set, and who has answered it."""

    number: int
    ids: list[str]
    sites: ChunkSites


class Annotation:
    """Lines 1 to 10 of the algorithms on disk. What is finished is found again by its mark: weights, filter, manifest.

    Args:
        folder: gets filter.csv, and masks.zarr/pseudo: the run's own, or another for answers that are fused again.
        sites: who has answered each chunk, and w.
    """

    def __init__(self, study: Study, folder: Path, transferal: SharedSet, sites: Sequence[ChunkSites]) -> None:
        self.study, self.verdicts_file, self.transferal, self.sites = study, folder / "filter.csv", transferal, sites
        self.group = zarr.open_group(str(folder / "masks.zarr"), mode="a")
        combined = hashlib.sha256(repr([each.combine.mark for each in sites]).encode()).hexdigest()
        self.mark = f"{combined} {study.filter.model_dump_json()} {transferal.manifest.sha256}"

    def annotate(self) -> None:
        """masks.zarr/pseudo and filter.csv."""
        store, spec, size = self.transferal.masks, self.study.filter, self.study.study.image_size
        if self.verdicts_file.exists() and self.group.attrs.get("fused") == self.mark:
            return
        ids = self.transferal.manifest.ids
        chunks = [
            StoredChunk(number, list(ids[rows.start : rows.stop]), sites)
            for number, (rows, sites) in enumerate(zip(store.chunks, self.sites, strict=True))
        ]
        alpha, beta = (scaled_alpha(spec.min_target_pixels, size), spec.max_entropy) if spec.enabled else (0.0, 8.0)
        pseudo = _Pseudo(create_stack(self.group, "pseudo", store.count, store.size, store.chunk), store.chunk)
        pseudo_annotate(_Stored(self.transferal), chunks, lambda x: x.sites.combine, alpha, beta, pseudo)
        write_filter(pseudo.verdicts, self.verdicts_file)
        self.group.attrs["fused"] = self.mark

    @property
    def pseudo(self) -> "zarr.Array[Any]":
        """The fused masks (N, H, W) uint8, once there are any."""
        return self.group["pseudo"]  # type: ignore[return-value]

    def verdicts(self) -> list[Verdict]:
        """filter.csv. Raises FilterError: fewer than `min_kept` pictures remain."""
        verdicts, label = read_filter(self.verdicts_file), self.transferal.label
        if self.study.filter.enabled:
            demand_enough(verdicts, self.study.filter, f"class {label!r}: " if label else "")
        return verdicts


def collect(parts: Sequence[Annotation], place: str) -> None:
    """The zarr group at `place`: kept pictures and their pseudo masks, sharpened, as the student's workers read them.

    Args:
        parts: one per class. A picture stays when a class keeps it, and a class is learned from the pictures that it keeps.

    Raises:
        FilterError: fewer than `min_kept` pictures remain for a class.
    """
    verdicts = [part.verdicts() for part in parts]
    study, transferal = parts[0].study, parts[0].transferal
    mark = " ".join([*(part.mark for part in parts), f"temperature {study.student.temperature}"])
    if _complete(place) == mark:
        return
    known = np.array([[verdict.kept for verdict in each] for each in zip(*verdicts, strict=True)])  # (N, C)
    stay = np.asarray(known.any(axis=1))
    ids = [verdict.id for verdict in verdicts[0]]
    kept = [ids[row] for row in np.flatnonzero(stay)]
    out = PseudoSet(place, study.study.image_size, transferal.chunk, kept, known[stay] if len(parts) > 1 else None)
    for rows in transferal.masks.chunks:
        here = np.flatnonzero(stay[rows.start : rows.stop])
        if len(here):
            images = np.asarray(transferal.images[rows.start : rows.stop])[here]
            planes = [np.asarray(part.pseudo[rows.start : rows.stop])[here] for part in parts]
            soft = np.stack(planes, axis=1) if len(parts) > 1 else planes[0]
            out.add(images, sharpen(soft, study.student.temperature))
    out.close(mark)


def _complete(place: str) -> Any:
    try:
        return zarr.open_group(place, mode="r").attrs.get("complete")
    except FileNotFoundError:
        return None


class _Stored:
    """T from the mask store."""

    def __init__(self, shared: SharedSet) -> None:
        self.store = shared.masks

    def soft(self, x: StoredChunk) -> bool:
        return x.sites.soft

    def __call__(self, x: StoredChunk) -> Mapping[str, Masks]:
        return {site: self.store.read(site, x.number) for site in x.sites.names}


class _Pseudo:
    """Pseudo masks go to disk, verdicts into one list (some bytes per picture)."""

    def __init__(self, array: "zarr.Array[Any]", chunk: int) -> None:
        self.array, self.chunk = array, chunk
        self.verdicts: list[Verdict] = []

    def update(self, x: StoredChunk, y: Masks, verdicts: list[Verdict]) -> None:
        self.array[x.number * self.chunk : x.number * self.chunk + len(y)] = y
        self.verdicts += [replace(verdict, sites=len(x.sites.names)) for verdict in verdicts]
