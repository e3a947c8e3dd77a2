"""`nakt site approve`, `approvals`, `personalised` and `receipts`: what asks to be answered here, what was, what it left."""

from collections import deque
from pathlib import Path

import click

from nakt_fed.cli.words import many, size

SITE_FILE = click.argument("site_file", type=click.Path(path_type=Path))
WHERE = click.argument("where", metavar="SITE_FILE|RUN", type=click.Path(path_type=Path))


@click.command()
@SITE_FILE
@click.argument("run")
@click.option(
    "--withdraw", is_flag=True, help="Take the approval back: the run is refused, and a fine-tuning for it is dropped."
)
def approve(site_file: Path, run: str, withdraw: bool) -> None:
    """Let this site answer RUN, as `nakt site approvals` names it. The service need not be restarted."""
    from nakt_fed.site.approvals import Approvals
    from nakt_fed.site.personal_runs import PersonalRuns
    from nakt_fed.site.site_file import load_site

    folder = load_site(site_file).site.folder
    approvals = Approvals(folder)
    if withdraw:
        approvals.withdraw(run)
        click.echo(f"run {run} is no longer approved")
        if PersonalRuns(folder).drop():
            click.echo("the fine-tuning of its student ends with the present epoch, and nothing of it is kept")
        return
    asked = approvals.approve(run)
    click.echo(f"run {run} is approved")
    if asked is None:
        click.echo("it has not asked yet: check its name if you expected that it had")


@click.command()
@SITE_FILE
def approvals(site_file: Path) -> None:
    """Which runs wait for an approval by hand, and which have one."""
    from nakt_fed.site.approvals import Approvals
    from nakt_fed.site.site_file import load_site

    kept = Approvals(load_site(site_file).site.folder)
    waiting, approved = kept.waiting(), kept.approved()
    for run, asked in waiting.items():
        what = f"set {asked['set']}, {many(asked['pictures'], 'picture')}"
        click.echo(f"waits     {run}: {what}, for {asked['coordinator']}, first asked {asked['asked']}")
    for run, time in approved.items():
        click.echo(f"approved  {run}: {time}")
    click.echo(f"{many(len(waiting), 'run')} waiting, {len(approved)} approved")


@click.command()
@SITE_FILE
def personalised(site_file: Path) -> None:
    """The students that a coordinator had fine-tuned here, on private pictures: they have never left."""
    from nakt_fed.site.personal_list import listed
    from nakt_fed.site.site_file import load_site

    lines = listed(load_site(site_file).site.folder)
    click.echo("\n".join(lines) or "no student was fine-tuned here")


@click.group(short_help="What was asked of a site, or by a run.")
def receipts() -> None:
    """The log of everything that was asked of a site; the coordinator's own is in a run's folder (give that)."""


@receipts.command()
@WHERE
@click.option("--hash", "noted", metavar="SHA256", help="A receipt's hash that you noted elsewhere; it must be there.")
def verify(where: Path, noted: str | None) -> None:
    """Find any changed, missing or reordered line. Exit code 1 when there is one."""
    from nakt_fed.errors import RunError
    from nakt_fed.site import receipts as log

    path = _log(where)
    if faults := log.verify(path, noted):
        raise RunError("\n".join([f"{path} cannot be believed; compare it with a backup:", *faults]))
    last = deque(log.Receipts(path).lines(), maxlen=1)
    told = [f"{many(line['n'], 'receipt')}, all as written; the last hash is {line['hash']}" for line in last]
    click.echo("".join(told) or "no receipts yet")


@receipts.command()
@WHERE
@click.option("--last", default=20, show_default=True, type=click.IntRange(min=1), help="How many lines.")
def show(where: Path, last: int) -> None:
    """The last receipts, one per line."""
    from nakt_fed.errors import RunError
    from nakt_fed.site.receipts import Receipts

    log = _log(where)
    lines = deque(Receipts(log).lines(), maxlen=last)
    if not lines and log.exists() and log.stat().st_size:
        raise RunError(
            f"no line of {log} is a receipt as it was written; `nakt site receipts verify` says what is wrong"
        )
    if not lines:
        click.echo("no receipts yet")
    for line in lines:
        asked = " ".join(str(line.get(key) or "-") for key in ("run", "set"))
        amount = (
            f"{many(line.get('pictures', 0), 'picture')}, {size(line['bytes_in'])} in, {size(line['bytes_out'])} out"
        )
        outcome = f"{line['outcome']} ({line['reference']})" if line.get("reference") else line["outcome"]
        click.echo(f"{line['n']:>6} {line['time']} {line['kind']:<8} {asked}: {amount}: {outcome}")


def _log(where: Path) -> Path:
    """The log of a site file's site, or the one in a folder: the coordinator's of a run, or a site's own."""
    from nakt_fed.errors import RunError
    from nakt_fed.resume import is_run
    from nakt_fed.site.receipt_lines import head_file
    from nakt_fed.site.receipts import FILE
    from nakt_fed.site.site_file import load_site

    if not where.exists():
        raise RunError(f"{where} is not there; give a site file, or the folder of a run")
    if not where.is_dir():
        return load_site(where).site.folder / FILE
    log = where / FILE
    if not (log.exists() or head_file(log).exists() or is_run(where)):
        raise RunError(f"{where} is no run and holds no {FILE}; give a site file, or the folder of a run")
    return log
