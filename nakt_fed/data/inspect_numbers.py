"""The numbers of an inspection: a table for people and the document of `nakt data inspect --json`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nakt_fed.data.inspect_set import Inspection, Seen

VERSION = 1


def part_numbers(pictures: Sequence[Seen]) -> dict[str, Any]:
    """Counts, and quartiles with ends: [smallest, 25 %, median, 75 %, largest]."""
    shares = [one.foreground for one in pictures if one.foreground is not None]
    return {
        "pictures": len(pictures),
        "with_mask": len(shares),
        "empty_masks": sum(share == 0 for share in shares),
        "width": _spread([one.width for one in pictures]),
        "height": _spread([one.height for one in pictures]),
        "sizes": len({(one.width, one.height) for one in pictures}),
        "foreground": _spread(shares),
    }


def document(found: Inspection) -> dict[str, Any]:
    """Everything as JSON; pictures are named by part and file name."""
    manifest = found.manifest
    return {
        "version": VERSION,
        "folder": found.folder.name,
        "kind": manifest.kind if manifest else None,
        "parts": {name: part_numbers(pictures) for name, pictures in found.parts.items()},
        "near_duplicates": found.near_duplicates,
        "near_duplicates_across_parts": found.across,
        "near_duplicates_with_different_classes": manifest.contradictions if manifest else [],
        "faults": found.faults,
    }


def _spread(values: Sequence[float]) -> list[float] | None:
    return [round(float(value), 6) for value in np.percentile(values, [0, 25, 50, 75, 100])] if values else None
