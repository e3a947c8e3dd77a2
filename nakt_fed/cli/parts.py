"""`nakt train`, `predict`, `evaluate`, `report`: the parts on their own."""

import csv
from pathlib import Path

import click

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("images", type=FOLDER)
@click.argument("masks", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--network", default="unet", show_default=True, help="One of the five, an smp architecture, or module:factory.")
@click.option("--width", type=int, help="Channels of the first stage (unet, attunet, sdunet).")
@click.option("--encoder", help="Encoder by name (deeplabv3plus, panoptic_fpn and other smp networks).")
@click.option("--image-size", default=384, show_default=True)
@click.option("--epochs", default=20, show_default=True)
@click.option("--batch-size", default=8, show_default=True)
@click.option("--learning-rate", default=1e-3, show_default=True)
@click.option("--validation", default=0.1, show_default=True, help="Share of the pictures kept for validation.")
@click.option("--seed", default=0, show_default=True)
def train(
    images: Path, masks: Path, out: Path, network: str, width: int | None, encoder: str | None, image_size: int, epochs: int,
    batch_size: int, learning_rate: float, validation: float, seed: int,
) -> None:  # fmt: skip
    """Train a network on the pictures in IMAGES with their MASKS; the checkpoint is OUT/teacher.safetensors."""
    from nakt_fed.cli.display import Display
    from nakt_fed.parts import train_network
    from nakt_fed.study import checked_parts

    spec, recipe, size = checked_parts(
        {"network": network, "width": width, "encoder": encoder},
        {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "validation": validation},
        image_size,
    )
    with Display() as display:
        train_network(
            images, masks, out, spec, recipe, image_size=size, seed=seed,
            on_epoch=lambda log: display(
                {"kind": "epoch", "who": network, "epoch": log.epoch, "epochs": epochs, "loss": log.loss, "validation_dice": log.validation_dice,
                 "seconds_left": log.seconds * (epochs - log.epoch)}
            ),
        )  # fmt: skip
    click.echo(f"checkpoint: {out / 'teacher.safetensors'}")


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.argument("out", type=FOLDER)
@click.option("--style", type=click.Choice(["mask", "soft", "overlay"]), default="mask", show_default=True)
def predict(checkpoint: Path, folder: Path, out: Path, style: str) -> None:
    """Write a mask (or soft mask, or overlay) into OUT for every picture in FOLDER."""
    from nakt_fed.parts import predict_folder

    written = predict_folder(checkpoint, folder, out, style=style)
    click.echo(f"{len(written)} pictures answered: {out}")


@click.command()
@click.argument("checkpoint", type=FOLDER)
@click.argument("images", type=FOLDER)
@click.argument("masks", type=FOLDER)
@click.option("--csv", "table_path", type=FOLDER, help="Write one row per picture.")
def evaluate(checkpoint: Path, images: Path, masks: Path, table_path: Path | None) -> None:
    """Measure CHECKPOINT on the pictures in IMAGES with their MASKS (threshold 0.5, distances in pixels at the network's size)."""
    from nakt_fed.metrics import summary
    from nakt_fed.parts import evaluate_folder

    table = evaluate_folder(checkpoint, images, masks)
    for name, unit, factor in (("dice", "%", 100), ("iou", "%", 100), ("hd95", "px", 1), ("assd", "px", 1)):
        row = summary(table[name])
        missing = len(table[name]) - row.n
        note = f"   ({missing} without a distance: one mask is empty)" if missing else ""
        click.echo(f"{name.upper() if name != 'dice' else 'Dice':<5} {factor * row.mean:6.2f} ± {factor * row.std:.2f} {unit:<2}  n = {row.n}{note}")
    if table_path:
        with table_path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(list(table))
            writer.writerows(zip(*table.values(), strict=True))


@click.command()
@click.argument("run", type=FOLDER)
def report(run: Path) -> None:
    """Write RUN/report.html again from what the run folder holds."""
    from nakt_fed.report import write_report

    click.echo(f"report: {write_report(run)}")
