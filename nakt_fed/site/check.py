"""`nakt site check`: whether a site could take part, line by line. Nothing is sent but a TLS greeting."""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nakt_fed import __version__
from nakt_fed.app_folder import app_sha256
from nakt_fed.cli.words import many, size
from nakt_fed.errors import NaktError, RunError
from nakt_fed.site.check_keys import check_authority, check_coordinator_key, check_site_key
from nakt_fed.site.check_line import check_line
from nakt_fed.site.local_socket import check_folder, check_path
from nakt_fed.site.policy import is_over
from nakt_fed.site.site_file import SiteFile
from nakt_fed.site.words import Judged, policy_in_words


@dataclass(frozen=True)
class Finding:
    """One line of the check. Not ok: `text` ends with the remedy."""

    name: str
    ok: bool
    text: str


def check_site(file: SiteFile, *, offline: bool = False) -> Iterator[Finding]:
    """Check part by part, each when its turn comes."""
    at = file.coordinator
    yield _finding("authority", lambda: check_authority(at.root_certificates))
    yield _finding("site key", lambda: check_site_key(at.site_key))
    yield _finding("orders", lambda: check_coordinator_key(at.public_key))
    if not offline:
        yield _finding("coordinator", lambda: check_line(at.address, at.root_certificates))
    yield _finding("app", lambda: _app(file))
    yield _finding("teacher", lambda: _teacher(file))
    private: list[Judged] = []
    yield _finding("pictures", lambda: _pictures(file, private))
    yield _finding("disk", lambda: _disk(file))
    yield _finding("socket", lambda: _socket(file))
    for sentence in policy_in_words(file, private[0] if private else None):
        yield Finding("policy", True, sentence)
    last = file.policy.expires
    if is_over(last, datetime.now(UTC)):
        yield Finding("policy", False, f"policy.expires was {last}, so every request is refused; set a later day")


def _finding(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name, True, check())
    except NaktError as error:
        return Finding(name, False, str(error))
    except OSError as error:
        return Finding(name, False, f"{error.strerror}: {error.filename}; check the path and its permissions")
    except Exception as error:  # a network of the site's own may raise anything
        return Finding(name, False, f"{type(error).__name__}: {error}; mend what it names")


def _app(file: SiteFile) -> str:
    """Whether the app of the same nakt-fed may run. Raises RunError: it may not."""
    own = app_sha256()
    if own not in file.policy.apps:
        at_all = "" if file.policy.apps else "; policy.apps is empty, so none runs"
        text = f"the app of nakt-fed {__version__} is not approved{at_all}"
        raise RunError(f'{text}; if the coordinator has the same version, set policy.apps = ["{own}"]')
    return f"the app of nakt-fed {__version__} may run here: {own}"


def _teacher(file: SiteFile) -> str:
    """Load it and let it answer a batch of test pictures. Raises NaktError."""
    import resource

    import numpy as np
    import torch

    from nakt_fed.checkpoint import load_checkpoint
    from nakt_fed.predict import BATCH, probabilities, quantise

    assert file.teacher.checkpoint is not None
    model, card = load_checkpoint(file.teacher.checkpoint, expect=file.teacher.spec())
    torch.set_num_threads(file.site.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = file.site.image_size
    test = np.random.default_rng(0).integers(0, 256, (BATCH, side, side), dtype=np.uint8)
    for _ in range(2):  # the first time is not the usual one
        began = time.monotonic()
        quantise(probabilities(model.to(device), test, device, file.teacher.classes))
        seconds = (time.monotonic() - began) / BATCH
    parameters = sum(parameter.numel() for parameter in model.parameters())
    trained = card["provenance"].get("image_size", side)
    other = "" if trained == side else f"; note: it was trained at {trained} pixels, site.image_size is {side}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return (
        f"{file.teacher.network}, {parameters / 1e6:.2f} million parameters, {1000 * seconds:.1f} ms per picture of "
        f"{side}×{side} on {device.type}, {size(memory)} of memory{other}"
    )


def _pictures(file: SiteFile, private: list[Judged]) -> str:
    from nakt_fed.site.evaluation import judged_on
    from nakt_fed.site.scores import shown
    from nakt_fed.site_data import private_data

    if file.private is None:
        return "no private pictures are named: no overlap is counted and no student is evaluated here"
    data = private_data(file.spec(), file.site.image_size, 0)
    total = sum(len(part) for part in (data.train, data.validation, data.test))
    seen = shown(judged_on(data), file.site.classes)
    private.append(Judged(len(data.test) or total, max(seen.values())))
    share = f", {len(data.test):,} of them the test share" if len(data.test) else ""
    told = [f"{label or 'a target'} in {number:,}" for label, number in seen.items()]
    return f"{many(total, 'private picture')} with masks{share}; {', '.join(told)}"


def _disk(file: SiteFile) -> str:
    """A set's pictures are kept, packed; a byte per pixel is more than they ever need."""
    folder = _nearest(file.site.folder)
    if not folder.is_dir():
        raise RunError(
            f"{folder} is a file, so {file.site.folder} cannot be the site's folder; name another in site.folder"
        )
    free, needed = shutil.disk_usage(folder).free, file.policy.pictures_per_set * file.site.image_size**2
    told = f"{size(free)} free in {folder}"
    if free < needed:
        remedy = "free some space, name another site.folder, or lower policy.pictures_per_set"
        raise RunError(f"{told}; the largest set that the policy allows may need {size(needed)}; {remedy}")
    return f"{told}; the largest set that the policy allows needs at most {size(needed)}"


def _socket(file: SiteFile) -> str:
    check_path(file.socket)
    if file.socket.parent != file.site.folder and file.socket.parent.exists():
        check_folder(file.socket.parent)
    return f"the teacher service will listen on {file.socket}"


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())
