"""`nakt check`: validate a study without running it, and say what would happen."""

from pathlib import Path

import click

from nakt_fed.cli.display import size
from nakt_fed.inspect_study import StudySummary, inspect_study
from nakt_fed.study import Study, load_study


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--time/--no-time", default=True, help="Time one batch of every network to estimate the duration.")
def check(study: Path, time: bool) -> None:
    """Read every picture, mask and checkpoint that the TOML file STUDY names; run nothing."""
    loaded = load_study(study)
    summary = inspect_study(loaded)
    click.echo("\n".join(_lines(loaded, summary)))
    if time:
        from nakt_fed.estimate import estimate_seconds

        stages = estimate_seconds(loaded, summary)
        parts = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in stages.items())
        click.echo(f"time       about {sum(stages.values()) / 60:.0f} minutes on this machine ({parts})")
    click.echo("the study can be run")


def _lines(study: Study, summary: StudySummary) -> list[str]:
    lines = [f"study      {study.study.name}, {study.study.image_size}×{study.study.image_size} pixels, seed {study.study.seed}"]
    for site in summary.sites:
        teacher = "from its checkpoint" if site.checkpoint else f"trained on {site.train} pictures, {site.validation} for validation"
        lines.append(f"site       {site.name}: {site.network}, {teacher}" + (f", {site.test} held out as test set" if site.test else ""))
    lines.append(f"transferal {summary.originals} pictures and {summary.views} views of them = {summary.pictures} answers of each site")
    lines.append(
        f"bytes      per site: about {size(summary.bytes_out)} of pictures out, {size(summary.bytes_back)} of masks back "
        "(1.4 bits per pixel, as measured on real soft masks)"
    )
    beta = f"entropy ≤ {study.filter.max_entropy:g} bits, ≥ {study.filter.min_target_pixels} target pixels at 384×384"
    lines.append(f"filter     {beta if study.filter.enabled else 'off'}")
    lines.append(f"student    {study.student.network}, {study.student.epochs} epochs, {study.student.workers} Ray Train worker(s)")
    lines += [f"fine-tune  on {summary.fine_tune} annotated pictures"] if summary.fine_tune else []
    lines += [f"test set   {name}: {count} pictures" for name, count in summary.tests.items()]
    return lines
