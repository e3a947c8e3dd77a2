"""The import: find, write into a part folder, split without leaks, rename at the end."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nakt_fed.data.imports.assemble import assemble
from nakt_fed.data.imports.kinds import root_of
from nakt_fed.data.imports.manifest import DatasetManifest, Fault, write_manifest
from nakt_fed.data.imports.source import Item, Listing, Options
from nakt_fed.data.imports.write import Written, write_item
from nakt_fed.data.parallel import in_threads
from nakt_fed.errors import DataError

SHOWN = 5
"""Faults that a message quotes."""


def import_set(
    kind: str,
    source: Path | str,
    target: Path | str,
    *,
    test_share: float = 0.2,
    skip_damaged: bool = False,
    options: Options = Options(),
    on_file: Callable[[int, int], None] | None = None,
) -> DatasetManifest:
    """Bring a published set, or clinical files, into the project's form.

    `target` gets images/ and masks/, test/images/ and test/masks/ with the pictures held out, and dataset.json. Without
    masks (a transferal set) all pictures lie in images/. It is written as a whole or not at all; what an interrupted
    import left behind is removed by the next.

    Args:
        kind: a name of `kinds.KINDS`.
        source: the folder that the archive unpacks to.
        target: a folder that is empty or not there.
        test_share: share of the pictures held out, patients and near-duplicates whole; 0 for none.
        skip_damaged: pass over what cannot be used and list it in the manifest.
        options: seed, transferal, window, plane, labels.
        on_file: called after every file with how many are done and how many there are.

    Raises:
        DataError: the source is missing or of another layout, a file cannot be used, or `target` is not empty.
    """
    source, target = Path(source).resolve(), Path(target).resolve()
    found, root = root_of(kind, source)
    _refuse_full(target)
    if not 0 <= test_share < 1:
        raise DataError(f"test_share is {test_share:g}; give a share from 0 to below 1, for example 0.2")
    listing = found.find(root, options)
    if options.transferal or not listing.annotated:
        listing, test_share = replace(listing, annotated=False), 0.0
    _refuse_items(listing.items, source)
    with _whole_or_nothing(target) as part:
        written, faults = _written(listing, root, part, on_file)
        _refuse_faults(faults, len(listing.items), skip_damaged, bool(written))
        manifest = assemble(found, listing, written, faults, test_share, options)
        _move(manifest, part)
        write_manifest(manifest, part)
    return manifest


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` at the end, and is gone when the block does not end well."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir()
        yield part
        part.replace(target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _refuse_full(target: Path) -> None:
    if target.is_file():
        raise DataError(f"{target} is a file; give a new folder for the imported set")
    if target.is_dir() and any(target.iterdir()):
        raise DataError(f"{target} is not empty, and nothing is overwritten; give a new folder")
    target.parent.mkdir(parents=True, exist_ok=True)


def _refuse_items(items: list[Item], source: Path) -> None:
    if not items:
        raise DataError(f"{source} holds no picture that can be imported; was the archive unpacked whole?")
    name, count = Counter(item.name.lower() for item in items).most_common(1)[0]
    if count > 1:
        raise DataError(f"{count} files in {source} would be called {name!r}; remove or rename all but one")


def _written(
    listing: Listing, root: Path, part: Path, on_file: Callable[[int, int], None] | None
) -> tuple[list[Written], list[Fault]]:
    def write(item: Item) -> list[Written] | Fault:
        return write_item(item, root, part, listing.annotated)

    for folder in ["images", "masks"] if listing.annotated else ["images"]:
        (part / folder).mkdir()
    results = in_threads(write, listing.items, on_file)
    faults = [result for result in results if isinstance(result, Fault)]
    return [one for result in results if not isinstance(result, Fault) for one in result], faults


def _refuse_faults(faults: list[Fault], total: int, skip: bool, any_left: bool) -> None:
    if faults and not (skip and any_left):
        quoted = "".join(f"\n  {fault.source}: {fault.reason}" for fault in faults[:SHOWN])
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        remedy = (
            "mend them, or go on without them: --skip-damaged (skip_damaged=True)"
            if any_left
            else "is it the right folder?"
        )
        raise DataError(f"{len(faults)} of {total} files cannot be used; {remedy}{quoted}{more}")


def _move(manifest: DatasetManifest, part: Path) -> None:
    """The pictures that are held out, and their masks, go to test/."""
    for entry in manifest.side("test"):
        for name in filter(None, (entry.image, entry.mask)):
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name.removeprefix("test/")).rename(part / name)
