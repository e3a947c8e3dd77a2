"""`nakt site serve`: the teacher service on a Unix socket (HTTP), with the gate and the cache before the teacher."""

import hashlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from nakt_fed.locks import only_one
from nakt_fed.signing import utc_now
from nakt_fed.site.cache import Cached, Handler
from nakt_fed.site.connection import CONNECTIONS, Line
from nakt_fed.site.desk import LIMIT, STUDENT_LIMIT, Desk, say
from nakt_fed.site.gate import Gate
from nakt_fed.site.local_socket import check_path, listening
from nakt_fed.site.personal_runs import PersonalRuns
from nakt_fed.site.policy import is_over
from nakt_fed.site.site_file import SiteFile

GRACE = 1
"""Seconds that work goes on for after SIGTERM; a chunk that is cut is asked again."""
STOPS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def closed_files() -> Iterator[None]:
    """Whatever is made meanwhile, also by what is started, is its owner's alone, whichever umask the operator has."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


@closed_files()
def serve_site(file: SiteFile) -> None:
    """Load the teacher and answer on the site's socket until SIGTERM or SIGINT; the process then ends with 0.

    Raises:
        NaktError: the teacher or the private pictures cannot be used, the socket cannot be made, or a service of this
            site is running already.
    """
    check_path(file.socket)
    make_private(file.site.folder)
    with only_one(file.site.folder):
        for stop in STOPS:
            signal.signal(stop, lambda *_: sys.exit(0))
        ended = not file.policy.personalise_student or is_over(file.policy.expires, utc_now())
        PersonalRuns(file.site.folder).drop(all_unfinished=ended)
        answer(Desk(open_site(file), limit_of(file)), file.socket, f"site {file.site.name} answers")


def limit_of(file: SiteFile) -> int:
    """Bytes of the largest request: large ones are read only where a student may be sent."""
    policy = file.policy
    return STUDENT_LIMIT if policy.evaluate_student or policy.personalise_student else LIMIT


def answer(desk: Desk, path: Path, words: str) -> None:
    """Listen at `path` and answer until a signal raises SystemExit. Raises RunError: no socket can be made there."""
    try:
        with listening(path) as sock:
            say(words)
            server_of(desk).run([sock])
    except SystemExit:
        if desk.working:  # a thread that computes cannot be ended, but its process can
            os._exit(0)
        raise


def open_site(file: SiteFile) -> Handler:
    """The whole chain of a site, its teacher and private pictures loaded. Raises NaktError: one of them cannot be used."""
    from nakt_fed.service import TeacherService  # torch
    from nakt_fed.site.personal_process import Beside

    site = file.site
    service = TeacherService(
        file.spec(),
        site.folder,
        image_size=site.image_size,
        seed=0,
        threads=site.threads,
        min_evaluated=file.policy.min_evaluated,
        trainer=Beside(file.policy.expires),
    )
    assert service.teacher is not None  # loaded now, not when the first request comes
    assert service.data is not None
    return Gate(file, Cached(service, site.folder / "cache", teacher_key(file)))


def teacher_key(file: SiteFile) -> str:
    """Other weights or another policy give other answers."""
    assert file.teacher.checkpoint is not None
    weights = hashlib.sha256(file.teacher.checkpoint.read_bytes()).hexdigest()
    return f"{weights} {file.spec().teacher.binary} {file.site.image_size}"


def server_of(desk: Desk) -> uvicorn.Server:
    """The HTTP server; nothing of a client's making goes to its log."""
    config = uvicorn.Config(
        desk,
        http=Line,
        ws="none",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        log_level="critical",
        proxy_headers=False,
        access_log=False,
        server_header=False,
        date_header=False,
        backlog=CONNECTIONS,
        timeout_keep_alive=1,
        timeout_graceful_shutdown=GRACE,
    )
    return uvicorn.Server(config)


def make_private(folder: Path) -> None:
    """The service's own folder, closed for everybody else: errors.jsonl in it may hold names."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
