"""`nakt compare`: which rows of a sweep are better than chance can tell."""

from pathlib import Path

import click


@click.command()
@click.argument("rows", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Write sweep.html and the tables (CSV, Parquet) here.")
@click.option("--against", metavar="CELL", help="Compare only with this cell: fewer comparisons, a smaller correction.")
@click.option("--title", help="Of the page; the name of ROWS by default.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0), help="Of the bootstrap.")
def compare(rows: Path, out: Path | None, against: str | None, title: str | None, seed: int) -> None:
    """Compare the cells in ROWS, the JSON that `nakt sweep` writes, picture by picture.

    Every pair is tested (Wilcoxon, Holm) and gets a bootstrap interval; cells in bold cannot be told apart from the best.
    """
    from rich.console import Console

    from nakt_fed.cli.results import WIDE
    from nakt_fed.statistics.leaderboard import leaderboard
    from nakt_fed.statistics.rows import block, read_rows
    from nakt_fed.statistics.tables import terminal_table

    board = leaderboard(block(read_rows(rows)), against=against, seed=seed)
    console = Console(highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = WIDE
    console.print(terminal_table(board))
    console.print(f"{board.words}.", *(f"Left out: {words}." for words in board.block.left_out), sep="\n", markup=False)
    if out:
        from nakt_fed.report.sweep_page import write_sweep

        click.echo(f"page: {write_sweep(board, out, title=title or rows.stem)}")
