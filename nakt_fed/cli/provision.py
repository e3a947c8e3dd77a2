"""`nakt provision`: the kits of a deployment from its federation file."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nakt_fed.cli.words import many

if TYPE_CHECKING:
    from nakt_fed.provision.kits import Outcome

FOLDER = click.Path(path_type=Path)


@click.command()
@click.argument("federation", type=FOLDER)
@click.option("--out", type=FOLDER, help='Where the kits are; "kits" beside the federation file unless said otherwise.')
@click.option("--add", metavar="NAME", multiple=True, help="Add a site to the federation file and make its kit.")
@click.option("--revoke", metavar="NAME", multiple=True, help="Take a site out; its key is not accepted any more.")
@click.option(
    "--days", type=click.IntRange(1, 3650), default=825, show_default=True, help="Of a new server certificate."
)
@click.option("--renew", is_flag=True, help="Make a new server certificate, signed by the same authority.")
def provision(
    federation: Path, out: Path | None, add: tuple[str, ...], revoke: tuple[str, ...], days: int, renew: bool
) -> None:
    """Make a folder of keys, certificates and files for the coordinator and for each site in the file FEDERATION.

    The same command again makes only what is missing: no key and no file that you changed is ever overwritten.
    """
    if both := set(add) & set(revoke):
        raise click.UsageError(f"{', '.join(sorted(both))}: revoke a site first, then add it in a second step")
    from nakt_fed.provision.kits import provision as make_kits

    root = out or federation.parent / "kits"
    outcome = make_kits(federation, root, add=add, revoke=revoke, days=days, renew=renew)
    for line in [*_files(outcome), *(f"revoked: {name}" for name in revoke), *_certificate(outcome)]:
        click.echo(line)
    click.echo(_next(outcome, revoke, root))


def _files(outcome: "Outcome") -> list[str]:
    lines = []
    new = [name for name in outcome.new if not name.startswith("coordinator/revoked/")]
    for kit in dict.fromkeys(name.partition("/")[0] for name in new):
        count = sum(name.startswith(f"{kit}/") for name in new)
        lines.append(f"made: {kit} ({many(count, 'file')})")
    lines += [f"brought up to date: {name}" for name in outcome.renewed]
    lines += [f"kept as you changed it: {name} (delete it to have it made anew)" for name in outcome.kept]
    lines += [
        f"given away before: {kit} (its private key is not here; no new one was made)" for kit in outcome.given_away
    ]
    return lines or ["nothing to do: all kits are complete"]


def _certificate(outcome: "Outcome") -> list[str]:
    lines = []
    if outcome.certificate_ends:
        soon = outcome.certificate_ends < datetime.now(UTC) + timedelta(days=60)
        remedy = "; make a new one with --renew" if soon else ""
        lines.append(f"server certificate: valid until {outcome.certificate_ends:%Y-%m-%d}{remedy}")
    if not outcome.names_host:
        lines.append("server certificate: not for the host in the federation file; make a new one with --renew")
    return lines


def _next(outcome: "Outcome", revoke: tuple[str, ...], root: Path) -> str:
    if revoke:
        keys = ", ".join(f"sites/{name}.pub" for name in revoke)
        return f"next: if the coordinator runs elsewhere, remove {keys} from its kit and copy federation.toml there"
    if any(name.endswith("server.crt") for name in outcome.renewed):
        return "next: copy coordinator/server.crt to the coordinator, and start it and its proxy again; the sites need nothing"
    if outcome.new:
        return f"next: give each its own folder below {root}, read its README.md, and keep authority where nobody else reads"
    return f"kits: {root}"
