"""`nakt withdraw`: a site leaves a run, with all that was made of its masks."""

from pathlib import Path

import click

from nakt_fed.cli.run import deployment, engine, federation, hand_over, simulation, verbose


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("site")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--only-delete", is_flag=True, help="Do not train again now; `nakt run --resume RUN` does.")
@engine
@federation
@verbose
def withdraw(
    folder: Path, site: str, yes: bool, only_delete: bool, engine: str, federation: Path | None, verbose: bool
) -> None:
    """Remove SITE from RUN: its masks and all that was made with them are deleted, the rest is fused and trained again.

    The proof, RUN/withdrawals/SITE.json, lists every deleted file with its hash, and the results' hashes before and after.
    """
    _withdraw(folder.resolve(), site, yes)
    if only_delete:
        from nakt_fed.resume import resume_command_of

        click.echo(f"go on with: {resume_command_of(folder)}")
        return
    hand_over(folder.resolve(), None, simulation(engine, verbose) if federation is None else deployment(federation))


def _withdraw(run: Path, site: str, yes: bool) -> None:
    from nakt_fed.withdraw import withdraw, words
    from nakt_fed.withdrawal_proof import proof_path

    if not yes:
        click.echo(words(run, site))
        click.confirm("Deleted files cannot be brought back. Go on?", abort=True)
    proof = withdraw(run, site)
    found = proof["search"]["found"]
    left = (
        f"the same content is in {', '.join(found)}: answered alike by another site" if found else "none of its masks"
    )
    click.echo(f"{len(proof['deleted'])} files deleted; in the {proof['search']['files']} that are left: {left}")
    click.echo(f"proof: {proof_path(run, site)}")
