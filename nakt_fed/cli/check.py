"""`nakt check`: validate a study without running it, and say what would happen."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nakt_fed.cli.words import duration, many, size

if TYPE_CHECKING:
    from nakt_fed.study import Study
    from nakt_fed.study.summary import SiteSummary, StudySummary


@click.command()
@click.argument("study", type=click.Path(path_type=Path))
@click.option("--time/--no-time", default=True, help="Time one batch of every network to estimate the duration.")
def check(study: Path, time: bool) -> None:
    """Read every picture, mask and checkpoint that the TOML file STUDY names; run nothing.

    Of a study that only names its sites, for a deployment, the coordinator's part is checked.
    """
    from nakt_fed.study import FederatedStudy
    from nakt_fed.study.file import load_study

    loaded = load_study(study)
    from nakt_fed.study.inspect import inspect_study  # torch: only once the study is known to be good

    federated = isinstance(loaded, FederatedStudy)
    summary = inspect_study(loaded, federated)
    click.echo("\n".join(_lines(loaded, summary)))
    if time and not federated:
        from nakt_fed.estimate import estimate_seconds

        stages = estimate_seconds(loaded, summary)
        parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in stages.items())
        click.echo(f"time       about {duration(sum(stages.values()))} on this machine ({parts})")
    click.echo("the study can be run")


def _lines(study: "Study", summary: "StudySummary") -> list[str]:
    from nakt_fed.study.cautions import cautions

    spec, student = study.study, study.student
    lines = [f"study      {spec.name}, {spec.image_size}×{spec.image_size} pixels, seed {spec.seed}"]
    lines += [_site_line(site) for site in summary.sites]
    lines += [f"site       {name}: in its own site file" for name in study.site_names if not summary.sites]
    lines += [f"class      {label}: known to {', '.join(study.knowing(label))}" for label in study.classes if label]
    lines += [f"!          will be set aside: {fault}" for fault in summary.faults.values()]
    views = f" and {many(summary.views, 'view')} of them" if summary.views else ""
    lines += [
        f"transferal {many(summary.originals, 'picture')}{views}: {many(summary.pictures, 'answer')} from each site",
        f"bytes      per site about {size(summary.bytes_out)} of pictures out, "
        f"{size(summary.bytes_back)} of masks back (at 2 bits per pixel; measured: 1.1 to 3.2)",
        f"weighting  {_weighting_words(study)}",
        f"filter     {_filter_words(study)}",
        f"student    {student.network}, {many(student.epochs, 'epoch')}, {many(student.workers, 'Ray Train worker')}",
    ]
    lines += [f"fine-tune  on {many(summary.fine_tune, 'annotated picture')}"] if summary.fine_tune else []
    lines += _at_sites(summary) if study.tunes_at_sites else []
    lines += [f"test set   {name}: {many(count, 'picture')}" for name, count in summary.tests.items()]
    return lines + [f"!          {words}" for words in cautions(study, summary)]


def _at_sites(summary: "StudySummary") -> list[str]:
    from nakt_fed.site.evaluation import MIN_EVALUATED

    few = [site.name for site in summary.sites if site.test < MIN_EVALUATED]
    why = f"fewer than {MIN_EVALUATED} pictures are held out there, so no number will be told; raise test_share"
    return ["fine-tune  at the sites that allow it, on their own pictures"] + [
        f"!          {name}: {why}" for name in few
    ]


def _site_line(site: "SiteSummary") -> str:
    trained = f"trained on {many(site.train, 'picture')}, {site.validation} for validation"
    test = f", {site.test} held out as test set" if site.test else ""
    return f"site       {site.name}: {site.network}, {'from its checkpoint' if site.checkpoint else trained}{test}"


def _weighting_words(study: "Study") -> str:
    from nakt_fed.weightings import find

    needs = find(study.fusion.weighting).needs
    what = "sums over the sites" if needs == "sums" else "each site's own masks"
    return f"{study.fusion.weighting}, from {what}"


def _filter_words(study: "Study") -> str:
    spec = study.filter
    rules = f"≥ {spec.min_target_pixels} target pixels at 384×384, entropy ≤ {spec.max_entropy:g} bits"
    return f"{rules}; at least {many(spec.min_kept, 'picture')} must remain" if spec.enabled else "off"
