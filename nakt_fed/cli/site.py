"""`nakt site`: a hospital's side of a deployment. Each command's module is imported when it is called."""

from pathlib import Path

import click

from nakt_fed.cli.lazy import Lazy

COMMANDS = {
    "check": ("nakt_fed.cli.site", "Say whether this site could take part, and what it would answer."),
    "start": ("nakt_fed.cli.site", "Start the teacher service and the SuperNode, and keep both alive."),
    "serve": ("nakt_fed.cli.site", "Start the teacher service alone, for a user of its own."),
    "supernode": ("nakt_fed.cli.site", "Start the SuperNode alone, for a user of its own."),
    "approve": ("nakt_fed.cli.site_records", "Let this site answer a run."),
    "approvals": ("nakt_fed.cli.site_records", "Which runs wait for an approval, and which have one."),
    "personalised": ("nakt_fed.cli.site_records", "The students that were fine-tuned here, and how well they do."),
    "receipts": ("nakt_fed.cli.site_records", "The log of everything that was asked of this site."),
}


@click.group(cls=Lazy, lazy=COMMANDS)
def site() -> None:
    """A hospital's side of a deployment; SITE_FILE is the kit's site.toml."""


_file = click.argument("site_file", type=click.Path(path_type=Path))


@click.command()
@_file
@click.option("--offline", is_flag=True, help="Leave out the connection to the coordinator.")
def check(site_file: Path, offline: bool) -> None:
    """One line per part of the site: ok, or failed with the remedy. Exit code 1 when one failed."""
    from nakt_fed.errors import RunError
    from nakt_fed.site.check import check_site
    from nakt_fed.site.site_file import load_site

    failed = 0
    for finding in check_site(load_site(site_file), offline=offline):
        click.echo(f"{'ok' if finding.ok else 'failed':<7} {finding.name:<12} {finding.text}")
        failed += not finding.ok
    if failed:
        raise RunError(f"{failed} of the checks failed; mend what they name, then check again")
    click.echo("the site can be started: nakt site start")


@click.command()
@_file
def start(site_file: Path) -> None:
    """Start the teacher service and Flower's SuperNode, and start again what dies, until Ctrl-C.

    The site dials out to its coordinator; it opens no port to the outside.
    """
    from nakt_fed.cli.guarded import stop_by_signal
    from nakt_fed.site.site_file import load_site
    from nakt_fed.site.supervise import start_site

    stop_by_signal()
    try:
        start_site(site_file, load_site(site_file), _event)
    except KeyboardInterrupt:
        _event("stopped")


def _event(text: str) -> None:
    import time

    click.echo(f"{time.strftime('%H:%M:%S')}  {text}")


@click.command()
@_file
def serve(site_file: Path) -> None:
    """Start the teacher service alone: it answers on the site's local socket what the policy allows.

    The SuperNode may then run under another user, who reaches nothing but the socket.
    """
    from nakt_fed.site.site_file import load_site

    file = load_site(site_file)
    from nakt_fed.site.serve import serve_site

    serve_site(file)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("socket")
@click.argument("flower", nargs=-1, type=click.UNPROCESSED, metavar="OPTIONS-OF-FLOWER-SUPERNODE...")
def supernode(socket: str, flower: tuple[str, ...]) -> None:
    """Start Flower's SuperNode alone; the teacher service at SOCKET says which apps may run (policy.apps).

    Its user needs to read no file of the teacher's. The folder FLWR_HOME has to be its own.
    """
    import os

    from nakt_fed.errors import RunError
    from nakt_fed.site.supervise import guarded_supernode

    home = os.environ.get("FLWR_HOME")
    if not home:
        raise RunError(
            "FLWR_HOME is not set; name a folder that the SuperNode's user owns, as in nakt-supernode.service"
        )
    Path(home).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not os.access(home, os.W_OK):
        raise RunError(f"FLWR_HOME names {home}, which this user may not write to; name a folder of its own")
    command = [*guarded_supernode(socket), *flower]
    os.execv(command[0], command)
