"""`nakt paper`: the paper's tables and figures on one's own data, made by the application `simulation`."""

from pathlib import Path

import click

from nakt_fed.app_folder import become

PRESETS = {
    "table2": "students of one teacher, tested on Breast Lesion-2 (40 students)",
    "table3": "the same students, tested on Baheya",
    "table4": "Algorithm 2: those students fine-tuned on 50 pictures of Baheya, and networks from scratch on the same",
    "table5": "Algorithm 2: likewise on 50 pictures of Thyroid",
    "table6": "several weak teachers, one student (3 seeds)",
    "table7": "pictures before and after exclusion",
    "figure1": "pictures that exclusion keeps and drops, with their pseudo masks",
    "figure2": "one picture of each data set",
    "figure3": "entropy of the pseudo masks, set by set",
}
SEEDS = {"table6": 3}


@click.command()
@click.argument("what", required=False, type=click.Choice(list(PRESETS)))
@click.option("--list", "listed", is_flag=True, help="Say what can be made.")
@click.option("--data", metavar="ROOT", type=click.Path(path_type=Path), help="The folder that the sets lie in.")
@click.option(
    "--sets", metavar="FILE", type=click.Path(path_type=Path),
    help="Which folder below ROOT plays which of the paper's sets; like nakt_fed/paper/sets.toml.",
)  # fmt: skip
@click.option(
    "--scale", type=click.Choice(["paper", "small"]), default="small", show_default=True,
    help="The paper's exact recipe, or one for two cores.",
)  # fmt: skip
@click.option(
    "--out", metavar="DIR", type=click.Path(path_type=Path), default="paper", show_default=True,
    help="What is made is kept here, and shared by all tables.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0, 2**31 - 101), default=7, show_default=True, help="The first seed.")
@click.option(
    "--seeds", type=click.IntRange(1, 100), help="How many seeds, one after the other.  [default: 1, table6: 3]"
)
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="CPUs of one training.")
@click.option("--gpus", type=click.FloatRange(0), default=0.0, show_default=True, help="GPUs of one training.")
@click.option("--show", is_flag=True, help="Make nothing more: show what there is already.")
def paper(
    what: str | None,
    listed: bool,
    data: Path | None,
    sets: Path | None,
    scale: str,
    out: Path,
    seed: int,
    seeds: int | None,
    threads: int,
    gpus: float,
    show: bool,
) -> None:
    """Make WHAT of the paper (arXiv 2101.09560, section 5) on the sets below ROOT.

    What was made before is found again, also by another table; the same command goes on after a kill. RAY_ADDRESS uses a cluster.
    """
    if listed:
        for name, told in PRESETS.items():
            click.echo(f"{name:8} {told}")
        return
    if what is None or data is None:
        raise click.UsageError("give WHAT and --data ROOT, or --list")
    options = {"data": data, "scale": scale, "out": out, "seed": seed, "seeds": seeds or SEEDS.get(what, 1)}
    options |= {"threads": threads, "gpus": gpus, **({"sets": sets} if sets else {})}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    become("simulation.paper", what, *words, *(["--show"] if show else []))
