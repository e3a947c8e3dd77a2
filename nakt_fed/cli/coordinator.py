"""`nakt coordinator start`: the SuperLink that sites dial, from the coordinator's kit."""

from pathlib import Path

import click

from nakt_fed.app_folder import app_sha256, become
from nakt_fed.cli.site_records import receipts


@click.group()
def coordinator() -> None:
    """What the coordinator of a deployment runs."""


coordinator.add_command(receipts)


@coordinator.command(short_help="Start the coordinator and keep it alive.")
@click.argument("kit", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--direct", is_flag=True, help="Take connections from everywhere, without a proxy in front.")
def start(kit: Path, direct: bool) -> None:
    """Start the coordinator from its KIT and keep it alive until Ctrl-C.

    It listens on 127.0.0.1, behind the reverse proxy whose nginx.conf is in the kit: Flower's control interface has no login,
    and whoever reaches it can start runs. With --direct there is no proxy: only where every site is trusted.
    """
    become("server.coordinator", str(kit.resolve()), *(["--direct"] if direct else []))


@coordinator.command(short_help="Print the SHA-256 of the app that the sites run.")
def app() -> None:
    """Print the SHA-256 of the app that runs of this machine send to the sites: each has it in policy.apps of its site.toml."""
    click.echo(app_sha256())
