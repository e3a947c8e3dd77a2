"""`nakt data`: public sets and clinical files into the project's form, and a look at a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nakt_fed.cli.words import many

if TYPE_CHECKING:
    from nakt_fed.data.imports.manifest import DatasetManifest
    from nakt_fed.data.inspect_set import Inspection

KINDS = ("busi", "nerve", "isic2017", "isic2018", "isic2019", "voc2012", "ddti", "busbra", "dicom", "nifti")
FOLDER = click.Path(path_type=Path)
QUOTED = 5


@click.group()
def data() -> None:
    """Bring data into the project's form, and look at it."""


@data.command("import", short_help="Bring a public set, DICOM or NIfTI files into the project's form.")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("source", type=FOLDER, metavar="SRC")
@click.argument("target", type=FOLDER, metavar="DST")
@click.option(
    "--test-share", default=0.2, show_default=True, type=click.FloatRange(0, 1, max_open=True),
    help="Share held out in DST/test, patients whole.",
)  # fmt: skip
@click.option(
    "--seed",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="Of the split, and of numbers that replace names.",
)
@click.option("--transferal", is_flag=True, help="All pictures, with or without a mask, and no masks.")
@click.option("--skip-damaged", is_flag=True, help="Pass over what cannot be used, and list it in dataset.json.")
@click.option("--window", type=(float, float), metavar="CENTRE WIDTH", help="Gray levels (dicom, nifti).")
@click.option("--plane", type=click.Choice(["axial", "coronal", "sagittal"]), default="axial", show_default=True)
@click.option("--label", "labels", type=int, multiple=True, help="What of a label map is foreground (nifti).")
def import_(kind: str, source: Path, target: Path, test_share: float, skip_damaged: bool, **choices: Any) -> None:
    """Bring the set in SRC, in its authors' layout, to the folder DST: images/, masks/, test/ and dataset.json.

    DST must be empty or not there. What was begun and broken off starts anew.
    """
    from nakt_fed.cli.display import Display
    from nakt_fed.data.imports.run import Options, import_set

    with Display() as display:

        def show(done: int, total: int) -> None:
            display.bar(kind, "file", done, total, "", keep=False)

        manifest = import_set(
            kind,
            source,
            target,
            test_share=test_share,
            skip_damaged=skip_damaged,
            options=Options(**choices),
            on_file=show,
        )
    click.echo("\n".join([*_import_lines(manifest), f"written    {target} (dataset.json says what is where)"]))


def _import_lines(manifest: "DatasetManifest") -> list[str]:
    from nakt_fed.data.imports.kinds import KINDS as TABLE

    train, test = manifest.side("train"), manifest.side("test")
    groups = {entry.group for entry in manifest.pictures if entry.group}
    lines = [f"{manifest.kind:<10} {many(len(manifest.pictures), 'picture')}" + _split_words(len(train), len(test))]
    lines += [f"left out   {many(part.count, 'file')} {part.why}" for part in manifest.left_out]
    lines += [f"!          {fault.source}: {fault.reason}" for fault in manifest.faults]
    if manifest.grouped_by and groups:
        lines.append(f"groups     {many(len(groups), manifest.grouped_by)}, each on one side")
    lines.append(f"alike      {_alike_words(manifest.near_duplicates)}")
    if manifest.contradictions:
        lines.append(f"!          {many(len(manifest.contradictions), 'group')} of them with different classes")
    lines += [f"note       {remark}" for remark in [TABLE[manifest.kind].remark] if remark]
    return [*lines, f"licence    {manifest.licence}", f"cite       {manifest.citation}"]


def _split_words(train: int, test: int) -> str:
    return f": {train} in images/, {test} held out in test/" if test else ""


def _alike_words(groups: list[list[str]]) -> str:
    if not groups:
        return "no two pictures"
    return f"{many(sum(map(len, groups)), 'near-duplicate')} in {many(len(groups), 'group')}"


@data.command(short_help="Look at a folder: counts, sizes, near-duplicates, damage.")
@click.argument("folder", type=FOLDER, metavar="DST")
@click.option("--json", "as_json", is_flag=True, help="Say it as JSON, with all names.")
@click.option("--sheet", type=FOLDER, help="Write a contact sheet, a self-contained HTML page.")
def inspect(folder: Path, as_json: bool, sheet: Path | None) -> None:
    """Read every picture and mask of a folder in the project's form.

    DST holds images/ and maybe masks/; or parts (train/, test/, ...) that do; or pictures. Exit code 1 when a file
    cannot be used or differs from dataset.json.
    """
    import json

    from nakt_fed.cli.display import Display
    from nakt_fed.data.inspect_numbers import document
    from nakt_fed.data.inspect_set import inspect_set

    with Display() as display:

        def show(done: int, total: int) -> None:
            if display.live and not as_json:
                display.bar(folder.name, "picture", done, total, "", keep=False)

        found = inspect_set(folder, show)
    if sheet:
        from nakt_fed.report.contact_sheet import write_contact_sheet

        write_contact_sheet(found, sheet)
    if as_json:
        click.echo(json.dumps(document(found), indent=1, ensure_ascii=False))
    else:
        click.echo("\n".join(_inspect_lines(found) + ([f"sheet      {sheet}"] if sheet else [])))
    if found.faults:
        raise SystemExit(1)


def _inspect_lines(found: "Inspection") -> list[str]:
    from nakt_fed.data.inspect_numbers import part_numbers

    lines = [f"set        {found.manifest.title}"] if found.manifest else []
    for name, pictures in found.parts.items():
        lines.append(f"{name:<10} {_part_words(part_numbers(pictures))}")
    lines.append(f"alike      {_alike_words(found.near_duplicates)}")
    if found.across:
        lines.append(f"!          {many(len(found.across), 'group')} in several parts, so one part knows the other:")
        lines += [f"           {', '.join(group)}" for group in found.across[:QUOTED]]
    if found.manifest and found.manifest.contradictions:
        lines.append(f"!          {many(len(found.manifest.contradictions), 'group')} with different classes")
    return lines + [f"!          {fault}" for fault in found.faults]


def _part_words(numbers: dict[str, Any]) -> str:
    words = [many(numbers["pictures"], "picture")]
    if numbers["pictures"]:
        width, height = numbers["width"], numbers["height"]
        words.append(f"{width[0]:.0f}×{height[0]:.0f} to {width[4]:.0f}×{height[4]:.0f} pixels")
    if numbers["with_mask"]:
        share = [100 * value for value in numbers["foreground"]]
        words.append(f"{numbers['with_mask']} with mask, {numbers['empty_masks']} of them empty")
        words.append(f"foreground {share[2]:.1f} % ({share[0]:.1f} to {share[4]:.1f})")
    return ", ".join(words)
