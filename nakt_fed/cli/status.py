"""`nakt status`: how far a run is, site by site, on the terminal, as JSON or as a page."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nakt_fed.status.reader import RunReader

REFRESH_SECONDS = 1.0


@click.command()
@click.argument("run", type=click.Path(path_type=Path), required=False)
@click.option(
    "--runs", type=click.Path(path_type=Path), default="runs", show_default=True,
    help="Without RUN: where the newest run is looked for.",
)  # fmt: skip
@click.option("--once", is_flag=True, help="Say it once, also on a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Say it once, as JSON.")
@click.option("--web", is_flag=True, help="Serve a page that shows it, read-only, until Ctrl-C.")
@click.option("--host", help="For --web: the address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="For --web; 0 takes any free one.  [default: 0]")
def status(
    run: Path | None, runs: Path, once: bool, as_json: bool, web: bool, host: str | None, port: int | None
) -> None:
    """How far the run in the folder RUN is, and each of its sites; without RUN the newest one.

    On a terminal it stays and is kept up to date until the run is over; Ctrl-C ends only the watching.
    """
    if not web and (host is not None or port is not None):
        raise click.UsageError("--host and --port go with --web")
    if web and (once or as_json):
        raise click.UsageError("--web serves a page; leave out --once and --json")
    from nakt_fed.status.reader import RunReader, newest_run

    reader = RunReader(run or newest_run(runs))
    if as_json:
        _print_json(reader)
    elif web:
        from nakt_fed.status.page import serve

        serve(reader, host or "127.0.0.1", port or 0, click.echo)
    else:
        with suppress(KeyboardInterrupt):
            _show(reader, once)


def _print_json(reader: "RunReader") -> None:
    import json

    from nakt_fed.status.document import document

    click.echo(json.dumps(document(reader.read()), indent=2, ensure_ascii=False))


def _show(reader: "RunReader", once: bool) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    from nakt_fed.cli.results import WIDE
    from nakt_fed.cli.status_table import screen

    console, now = Console(highlight=False, emoji=False), reader.read()
    if not console.is_terminal:
        console.width = WIDE
    if once or now.over or not console.is_terminal:
        console.print(screen(now))
        return
    with Live(screen(now), console=console, auto_refresh=False) as live:
        while not now.over:
            time.sleep(REFRESH_SECONDS)
            now = reader.read()
            live.update(screen(now), refresh=True)
