"""From written pictures to the manifest: which look alike, what may not be torn apart, and who is held out."""

import numpy as np
import numpy.typing as npt

from nakt_fed import __version__
from nakt_fed.data.imports.manifest import DatasetManifest, Entry, Fault, LeftOut, Split
from nakt_fed.data.imports.source import Kind, Listing, Options
from nakt_fed.data.imports.write import Written
from nakt_fed.data.split import split_groups
from nakt_fed.data.twins import alike, joined, near_pairs


def assemble(
    kind: Kind, listing: Listing, written: list[Written], faults: list[Fault], test_share: float, options: Options
) -> DatasetManifest:
    """The manifest of what was written: near-duplicates found, and a side for every picture."""
    names = [one.picture.name for one in written]
    pairs = near_pairs([one.looks for one in written])
    _, held_out = split_groups(_together(written, pairs), test_share, options.seed)
    sides: list[Split] = ["train"] * len(written)
    for index in held_out:
        sides[index] = "test"
    return DatasetManifest(
        kind=kind.name,
        title=kind.title,
        licence=kind.licence,
        citation=kind.citation,
        nakt_fed=__version__,
        seed=options.seed,
        test_share=test_share,
        transferal=not listing.annotated,
        grouped_by=kind.grouped_by or None,
        pictures=[_entry(one, side) for one, side in zip(written, sides, strict=True)],
        near_duplicates=alike(names, pairs),
        left_out=[LeftOut(why=why, count=count) for why, count in sorted(listing.left_out.items())],
        faults=faults,
    )


def _together(written: list[Written], pairs: npt.NDArray[np.int64]) -> list[str]:
    """What may not be torn apart: for each picture the first name among all of its group and their near-duplicates."""
    first: dict[str, int] = {}
    own = [(first.setdefault(one.picture.group, row), row) for row, one in enumerate(written) if one.picture.group]
    numbers = joined(len(written), np.concatenate([pairs, np.array(own, np.int64).reshape(-1, 2)]))
    names: dict[int, str] = {}
    for number, one in zip(numbers.tolist(), written, strict=True):
        names[number] = min(names.get(number, one.picture.name), one.picture.name)
    return [names[number] for number in numbers.tolist()]


def _entry(one: Written, side: Split) -> Entry:
    folder = "test/" if side == "test" else ""
    return Entry(
        name=one.picture.name,
        image=f"{folder}{one.image}",
        mask=None if one.mask is None else f"{folder}{one.mask}",
        source=one.picture.source,
        group=one.picture.group,
        label=one.picture.label,
        scanner=one.picture.scanner,
        part=one.picture.part,
        split=side,
        width=one.width,
        height=one.height,
        foreground=one.foreground,
        sha256=one.sha256,
    )
