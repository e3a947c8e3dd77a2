"""`nakt fuse` and `nakt sweep`: study a finished run again, without asking a site."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nakt_fed.cli.words import many

if TYPE_CHECKING:
    from nakt_fed.replay.stored import StoredRun

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("run", type=FOLDER)
@click.option("--weighting", required=True, help="A weighting by name, or your own module:function.")
@click.option("--option", "options", multiple=True, metavar="KEY=VALUE", help="An option of the weighting; repeatable.")
@click.option("--weight", "weights", multiple=True, metavar="SITE=WEIGHT", help='For "fixed": one per site.')
@click.option("--annotated", metavar="TEST", help='For "learned": the test set that it may look at.')
@click.option("--class", "label", default="", help="Where the sites know different classes: the one to look at.")
@click.option("--name", help="Of the new folder in RUN/fused; the weighting by default.")
def fuse(
    run: Path,
    weighting: str,
    options: tuple[str, ...],
    weights: tuple[str, ...],
    annotated: str | None,
    label: str,
    name: str | None,
) -> None:
    """Combine the answers stored in RUN in another way: RUN/fused/NAME gets masks, filter.csv, pseudo set and Dice."""
    from nakt_fed.annotation import collect
    from nakt_fed.replay.fuse import fuse_again
    from nakt_fed.replay.stored import StoredRun
    from nakt_fed.resume import answers_in_use
    from nakt_fed.study.tables import FusionSpec
    from nakt_fed.toml_file import parse

    raw = {"weighting": weighting, "options": dict(map(_pair, options)), "annotated": annotated}
    fusion = parse(FusionSpec, {**raw, "weights": dict(map(_pair, weights))}, Path(), "this weighting")
    with answers_in_use(run):
        stored = StoredRun(run, label)
        out = stored.folder / "fused" / _folder_name(name or "-".join(filter(None, (weighting, label))))
        annotation = fuse_again(stored, fusion, out)
        click.echo("\n".join(_told(stored, out)))
        collect([annotation], str(out / "pseudo.zarr"))
    click.echo(f"fused: {out}")


def _pair(text: str) -> tuple[str, Any]:
    """key=value, the value as TOML writes it, or plain text."""
    import tomllib

    key, sign, value = text.partition("=")
    if not sign:
        raise click.UsageError(f"{text!r} has no value; write KEY=VALUE")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _folder_name(name: str) -> str:
    if "/" in name or name.startswith("."):
        raise click.UsageError(f"--name is one folder's name, got {name!r}")
    return name.replace(":", ".")


def _told(run: "StoredRun", out: Path) -> list[str]:
    import json

    from nakt_fed.replay.rows import means

    told = json.loads((out / "fusion.json").read_text(encoding="utf-8"))
    lines = [f"{told['kept']} of {many(len(run.transferal.manifest), 'picture')} kept by the run's filter"]
    if told["weights"]:
        lines.append("weights: " + ", ".join(f"{site} {weight:.3f}" for site, weight in told["weights"].items()))
    lines += [f"Dice of the pseudo masks, {name}: {value:.2f} %" for name, value in means(told).items()]
    return lines


@click.command()
@click.argument("run", type=FOLDER)
@click.argument("sweep", type=FOLDER)
@click.option("--class", "label", default="", help="Where the sites know different classes: the one to look at.")
@click.option("--name", help="Of the folder in RUN/sweeps; the name of SWEEP by default.")
def sweep(run: Path, sweep: Path, label: str, name: str | None) -> None:
    """Try what the TOML file SWEEP lists on the answers stored in RUN: weightings, filter thresholds, students, seeds.

    Cells are made on Ray, each once: the same command goes on after a stop. `nakt compare` compares the rows.
    """
    from nakt_fed.app_folder import become

    name = name or (f"{sweep.stem}-{label}" if label else None)
    named = ["--name", _folder_name(name)] if name else []
    become("simulation.sweep", str(run), str(sweep), *named, *(["--class", label] if label else []))
