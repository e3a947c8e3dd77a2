"""`nakt contributions`: what each site brought to a run, from its stored answers."""

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--students", "epochs", type=click.IntRange(1), metavar="EPOCHS",
    help="Also train a student of all sites and one without each of them, for so many epochs.",
)  # fmt: skip
@click.option(
    "--pictures", default=2000, show_default=True, type=click.IntRange(16), help="At most so many for each student."
)
@click.option(
    "--class", "label", default="",
    help="Where the sites know different classes: the one to look at; the files then lie in RUN/classes/CLASS.",
)  # fmt: skip
def contributions(run: Path, epochs: int | None, pictures: int, label: str) -> None:
    """Write RUN/contributions.json and RUN/contributions.html: leave-one-out and Shapley contributions of the sites to
    the Dice of the pseudo masks, their agreement, calibration and where they differ. No site is asked.
    """
    from nakt_fed.classes import class_folder
    from nakt_fed.contributions.gather import gathered
    from nakt_fed.replay.stored import StoredRun
    from nakt_fed.report.contributions_page import write_contributions
    from nakt_fed.resume import answers_in_use
    from nakt_fed.whole_file import write_json

    with answers_in_use(run):
        stored, place = StoredRun(run, label), class_folder(run, label)
        found = gathered(stored)
        if epochs:
            from nakt_fed.contributions.students import students

            made = place / "contributions"
            found["students"] = students(stored, made, epochs=epochs, pictures=pictures, on_student=_say)
        write_json(place / "contributions.json", found)
        page = write_contributions(stored, found, place)
    _print(found)
    click.echo(f"page: {page}")


def _say(who: str) -> None:
    click.echo(f"› student {'of all sites' if who == 'everyone' else who.replace('-', ' ', 1)}")


def _print(found: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Column, Table

    from nakt_fed.report.words import points

    told = ["leave_one_out", "shapley", *(["student"] if found["students"] else [])]
    tables = {**found, "student": (found["students"] or {}).get("leave_one_out")}
    table = Table(Column("", no_wrap=True), box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in ["alone, %", *(name.replace("_", " ") for name in told)]:
        table.add_column(title, justify="right")
    for site in found["sites"]:
        cells = [points(100 * tables[name][site]["mean"]) for name in told]
        table.add_row(site, f"{100 * found['alone'][site]['mean']:.1f}", *cells)
    console = Console(highlight=False, emoji=False)
    console.print(f"\nContribution to the pseudo masks' Dice ({100 * found['everyone']['mean']:.1f} %), in points")
    console.print(table)
    for site, words in found["suspects"].items():
        console.print(f"! site {site} is suspected: {words}", markup=False, soft_wrap=True)
