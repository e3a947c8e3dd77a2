"""The command `nakt`. Each command's module is imported when it is called: `nakt --help` answers at once."""

import os
import sys

import click

from nakt_fed import __version__
from nakt_fed.cli.lazy import Lazy

COMMANDS = {
    "demo": ("nakt_fed.cli.run", "Run the embedded study: three breast ultrasound sites, a few minutes."),
    "run": ("nakt_fed.cli.run", "Run a study, or go on with one (--resume)."),
    "check": ("nakt_fed.cli.check", "Validate a study and say what would happen."),
    "train": ("nakt_fed.cli.parts", "Train a network on annotated pictures."),
    "predict": ("nakt_fed.cli.parts", "Masks or overlays for a folder, from a checkpoint."),
    "evaluate": ("nakt_fed.cli.parts", "Dice, IoU, HD95 and ASSD of a checkpoint on annotated pictures."),
    "paper": ("nakt_fed.cli.paper", "The paper's tables and figures, on data that you have."),
    "data": ("nakt_fed.cli.data", "Bring public sets, DICOM or NIfTI files into the project's form; look at a folder."),
    "provision": ("nakt_fed.cli.provision", "Make the kits of a federation: keys, certificates, settings."),
    "site": ("nakt_fed.cli.site", "A hospital's side of a deployment: check, start, approve, receipts."),
    "coordinator": ("nakt_fed.cli.coordinator", "The coordinator's side of a deployment."),
    "status": ("nakt_fed.cli.status", "How far a run is, site by site; --web for a page."),
    "fuse": ("nakt_fed.cli.replay", "Combine a run's stored answers in another way."),
    "sweep": ("nakt_fed.cli.replay", "Many weightings, filters, students and seeds on a run's stored answers."),
    "contributions": ("nakt_fed.cli.contributions", "What each site brought to a run, from its stored answers."),
    "withdraw": ("nakt_fed.cli.withdraw", "A site leaves a run, with all that was made of its masks."),
    "compare": ("nakt_fed.cli.compare", "Which rows of a sweep are better than chance can tell; tables and a page."),
    "report": ("nakt_fed.cli.parts", "Write report.html of a run again."),
}


@click.group(cls=Lazy, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="nakt")
def cli() -> None:
    """nakt-fed: the teachers of many hospitals become one student; no picture and no weight leaves a site."""


def main() -> None:
    """Entry point. A user's mistake ends with its message and exit code 1 (wrong usage: 2), Ctrl-C with 130."""
    from nakt_fed.cli.words import any_letters, os_error, plain_error
    from nakt_fed.errors import NaktError

    any_letters()
    try:
        cli(prog_name="nakt", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("stopped", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except NaktError as error:
        plain_error(str(error))
        sys.exit(1)
    except BrokenPipeError:  # `nakt check … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        plain_error(os_error(error))
        sys.exit(1)
