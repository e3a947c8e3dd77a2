"""`nakt train`, `predict`, `evaluate`, `report`: the parts on their own."""

import csv
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nakt_fed.cli.words import many

if TYPE_CHECKING:
    from nakt_fed.recipe import NetworkSpec
    from nakt_fed.training_state import EpochLog

Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)
SEED = click.IntRange(0, 2**31 - 1)
MEASURES = (("Dice", "dice", "%", 100), ("IoU", "iou", "%", 100), ("HD95", "hd95", "px", 1), ("ASSD", "assd", "px", 1))


def _network(default: str | None, help: str) -> Callable[[Command], Command]:
    """The three options that name a network."""

    def add(command: Command) -> Command:
        command = click.option("--encoder", help="Its encoder by name (deeplabv3plus, panoptic_fpn, smp).")(command)
        command = click.option("--width", type=int, help="Its first channels (unet, attunet, sdunet).")(command)
        return click.option("--network", default=default, show_default=default is not None, help=help)(command)

    return add


_own_network = _network(None, "Say it again for a network of your own (module:factory): its code is then run.")


@click.command()
@click.argument("images", type=FOLDER)
@click.argument("masks", type=FOLDER)
@click.argument("out", type=FOLDER)
@_network("unet", "One of the five, an smp architecture, or module:factory.")
@click.option("--image-size", default=384, show_default=True, help="Side in pixels that pictures are resized to.")
@click.option("--epochs", default=20, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--validation", default=0.1, show_default=True, help="Share of the pictures kept for validation.")
@click.option("--seed", default=0, show_default=True, type=SEED)
def train(
    images: Path,
    masks: Path,
    out: Path,
    network: str,
    width: int | None,
    encoder: str | None,
    image_size: int,
    seed: int,
    **recipe: float,
) -> None:
    """Train a network on the pictures in IMAGES with their MASKS; the checkpoint is OUT/teacher.safetensors.

    The same command again goes on where it was stopped.
    """
    from nakt_fed.study.file import checked_parts

    spec, checked, size = checked_parts({"network": network, "width": width, "encoder": encoder}, recipe, image_size)
    from nakt_fed.cli.display import Display  # these take seconds: only once the options are known to be good
    from nakt_fed.parts import train_network

    try:
        with Display() as display:

            def show(log: "EpochLog") -> None:
                left = log.seconds * (checked.epochs - log.epoch)
                display(
                    {"kind": "epoch", "who": network, "epochs": checked.epochs, "seconds_left": left, **asdict(log)}
                )

            train_network(images, masks, out, spec, checked, image_size=size, seed=seed, on_epoch=show)
    except KeyboardInterrupt:
        click.echo("\nstopped; the same command goes on with the next epoch", err=True)
        sys.exit(130)
    click.echo(f"checkpoint: {out / 'teacher.safetensors'}")


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--style", type=click.Choice(["mask", "soft", "overlay"]), default="mask", show_default=True)
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--class", "label", default="", help="Of a network that knows several classes, the one that is wanted.")
@_own_network
def predict(checkpoint: Path, folder: Path, out: Path, style: Any, overwrite: bool, label: str, **network: Any) -> None:
    """Write a mask (or soft mask, or overlay) into OUT for every picture in FOLDER, at the picture's own size."""
    spec = _spec(network)
    from nakt_fed.cli.display import Display
    from nakt_fed.parts import predict_folder

    with Display() as display:

        def show(done: int, total: int) -> None:
            if display.live:
                display.bar(folder.name, "picture", done, total, "", keep=False)

        files = predict_folder(
            checkpoint, folder, out, style=style, network=spec, label=label, overwrite=overwrite, on_picture=show
        )
    click.echo(f"{many(len(files), 'picture')} answered: {out}")


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.argument("images", type=FOLDER)
@click.argument("masks", type=FOLDER)
@click.option("--csv", "table_path", type=click.Path(path_type=Path, dir_okay=False), help="Write one row per picture.")
@click.option("--class", "label", default="", help="Of a network that knows several classes, the one that is wanted.")
@_own_network
def evaluate(checkpoint: Path, images: Path, masks: Path, table_path: Path | None, label: str, **network: Any) -> None:
    """Measure CHECKPOINT on the pictures in IMAGES with their MASKS (threshold 0.5).

    Distances are in pixels at the network's size.
    """
    spec = _spec(network)
    if table_path:  # before the work, of which a wrong path would lose the table
        table_path.parent.mkdir(parents=True, exist_ok=True)
    from nakt_fed.parts import evaluate_folder

    table = evaluate_folder(checkpoint, images, masks, network=spec, label=label)
    for row in MEASURES:
        click.echo(_measure(*row, table[row[1]]))
    if table_path:
        with table_path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            for row in zip(*table.values(), strict=True):
                writer.writerow(["" if cell != cell else cell for cell in row])  # NaN: a distance that does not exist


def _measure(name: str, key: str, unit: str, factor: int, values: Any) -> str:
    from nakt_fed.metrics import summary

    row = summary(values)
    missing = len(values) - row.n
    note = f"   ({many(missing, 'picture')} without a distance: one of the two masks is empty)" if missing else ""
    number = f"{factor * row.mean:6.2f} ± {factor * row.std:.2f} {unit:<2}" if row.n else "     -"
    return f"{name:<5} {number}  n = {row.n}{note}"


def _spec(network: dict[str, Any]) -> "NetworkSpec | None":
    from nakt_fed.study.file import checked_parts

    if not network["network"]:
        if any(network.values()):
            raise click.UsageError(
                "--width and --encoder go with --network; leave them out to take the checkpoint's own"
            )
        return None
    return checked_parts(network, {}, 32)[0]


@click.command()
@click.argument("run", type=FOLDER)
def report(run: Path) -> None:
    """Write RUN/report.html again from what the run folder holds."""
    from nakt_fed.report import write_report

    click.echo(f"report: {write_report(run)}")
