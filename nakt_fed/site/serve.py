"""`nakt site serve`: the teacher service on a Unix socket (HTTP), with the gate and the cache before the teacher."""

import hashlib
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from nakt_fed.errors import RunError
from nakt_fed.locks import only_one
from nakt_fed.site.cache import Cached, Handler
from nakt_fed.site.connection import CONNECTIONS, Line
from nakt_fed.site.desk import LIMIT, STUDENT_LIMIT, Desk, say
from nakt_fed.site.gate import Gate
from nakt_fed.site.personal_runs import PersonalRuns
from nakt_fed.site.site_file import SiteFile

LONGEST_PATH = 107
"""Bytes, of a Unix socket."""
GRACE = 1
"""Seconds that work goes on for after SIGTERM; a chunk that is cut is asked again."""
STOPS = (signal.SIGINT, signal.SIGTERM)


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
        PersonalRuns(file.site.folder).drop(all_unfinished=not file.policy.personalise_student)
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
    from nakt_fed.site.personal_training import Beside

    site = file.site
    service = TeacherService(
        file.spec(),
        site.folder,
        image_size=site.image_size,
        seed=0,
        threads=site.threads,
        min_evaluated=file.policy.min_evaluated,
        trainer=Beside(),
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


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A socket that the owner and the group may open. What a dead service left behind is replaced.

    Raises:
        RunError: a living service listens there, something else lies there, or everybody may enter the folder.
    """
    check_path(path)
    check_folder(path.parent)
    _clear(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(path))
        try:
            path.chmod(0o660)  # nobody could connect until now: nothing listens yet
            yield sock
        finally:
            path.unlink(missing_ok=True)


def check_path(path: Path) -> None:
    """Raises RunError: too long for a Unix socket."""
    if (length := len(os.fsencode(path))) > LONGEST_PATH:
        text = f"the socket's path has {length} bytes, a Unix socket's at most {LONGEST_PATH}: {path}"
        raise RunError(f"{text}; give a short one: [site] socket in the site file")


def make_private(folder: Path) -> None:
    """The service's own folder, closed for everybody else: errors.jsonl in it may hold names."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)


def check_folder(folder: Path) -> None:
    """Make it, for owner and group. Raises RunError: it is there and everybody may enter."""
    folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    if stat.S_IMODE(folder.stat().st_mode) & 0o007:
        raise RunError(
            f"every user of this machine may enter {folder}, where the socket is to be; give it a folder of its own: [site] socket "
            f"in the site file (or, if nothing else uses {folder}: chmod o-rwx)"
        )


def _clear(path: Path) -> None:
    if not path.is_socket():
        if path.exists():
            raise RunError(f"{path} is there and no socket; give another place: [site] socket in the site file")
        return
    if is_answered(path):
        raise RunError(f"a teacher service listens on {path} already; end it, or give another place: [site] socket")
    path.unlink(missing_ok=True)


def is_answered(path: Path) -> bool:
    """Whether a process listens on the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # BlockingIOError: too many wait in line
            return True
    return True
