"""`nakt site start`: the teacher service and Flower's SuperNode, kept alive together. Nothing is left when it ends."""

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError
from nakt_fed.flower_environment import direct, free_port, programs, quiet
from nakt_fed.keep_alive import Kept, kept_alive
from nakt_fed.locks import only_one
from nakt_fed.site.check_keys import check_authority, check_coordinator_key, check_site_key
from nakt_fed.site.local_socket import check_path, is_answered
from nakt_fed.site.serve import closed_files, make_private
from nakt_fed.site.site_file import SiteFile

OFFLINE = 70.0
"""Seconds until the coordinator counts a SuperNode that died as offline; one that comes back earlier is sent away."""
LOOK = 0.2
LOG_BYTES = 20_000_000
SHOWN_TO_APP = (
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
)
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class SuperNode(Kept):
    """Takes another free port at each start: its own interface for the ClientApp needs one, on 127.0.0.1."""

    def start(self) -> None:
        self.command[-1] = str(free_port())
        super().start()


@closed_files()
def start_site(path: Path, file: SiteFile, say: Callable[[str], None]) -> None:
    """Run both until interrupted (KeyboardInterrupt), starting again what dies.

    Args:
        say: takes one line per event.

    Raises:
        RunError, OSError: this site or its teacher service is started already, or its socket's path, its certificate or one of
            its keys cannot be used; a SuperNode without them would be started for ever.
    """
    check_path(file.socket)
    if is_answered(file.socket):
        raise RunError(f"a teacher service listens on {file.socket} already; end it, `nakt site start` starts its own")
    check_authority(file.coordinator.root_certificates)
    check_site_key(file.coordinator.site_key)
    check_coordinator_key(file.coordinator.public_key)
    make_private(file.site.folder)
    home = file.site.folder / "flower"
    (home / "work").mkdir(parents=True, exist_ok=True)
    command = supernode_command(file)
    with only_one(home), kept_alive([_service(path, file)], say) as look_after_service:
        say(f"teacher service of {file.site.name} is loading")
        while not is_answered(file.socket):
            look_after_service()
            time.sleep(LOOK)
        say("teacher service answers")
        node = _kept(SuperNode, "SuperNode", command, file, app_environment(home, os.environ), home / "work", OFFLINE)
        with kept_alive([node], say) as look_after_node:
            say(f"SuperNode dials {file.coordinator.address}; end with Ctrl-C")
            while True:
                look_after_service()
                look_after_node()
                time.sleep(LOOK)


def _service(path: Path, file: SiteFile) -> Kept:
    code = "from nakt_fed.cli import main; main()"
    command = [sys.executable, "-P", "-c", code, "site", "serve", str(path.resolve())]
    return _kept(Kept, "teacher service", command, file, os.environ, file.site.folder, LOOK)


def _kept(
    kind: type[Kept], name: str, command: list[str], file: SiteFile, env: Mapping[str, str], cwd: Path, pause: float
) -> Kept:
    log = file.site.folder / f"{name.split()[-1].lower()}.log"
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".log.1"))
    return kind(name, command, log, env, cwd, pause)


def supernode_command(file: SiteFile) -> list[str]:
    """Flower's SuperNode, which only dials out; what it listens on for its ClientApp is on 127.0.0.1, at the last word's port.

    Raises:
        RunError: the socket's path holds letters that Flower cannot be told.
    """
    at = file.coordinator
    return [
        *guarded_supernode(str(file.socket)),
        *("--superlink", at.address, "--root-certificates", str(at.root_certificates)),
        *("--auth-supernode-private-key", str(at.site_key), "--host", "127.0.0.1", "--port", "0"),
    ]


def guarded_supernode(service: str) -> list[str]:
    """A SuperNode that runs what the teacher service at this socket approves; options of `flower-supernode` may follow.

    Raises:
        RunError: see `supernode_command`.
    """
    if not service.isprintable() or set(service) & set("\"'\\"):
        raise RunError(f"Flower takes no path with quotes or backslashes: {service!r}; give another: [site] socket")
    return [sys.executable, "-P", str(app_folder() / "sites" / "guard.py"), service]


def app_environment(home: Path, user: Mapping[str, str]) -> dict[str, str]:
    """The SuperNode's environment, which the coordinator's app can read: nothing of the user's but what it needs."""
    kept = {key: value for key, value in user.items() if key in SHOWN_TO_APP or key.lower() in PROXIES}
    return kept | direct(user) | programs(user) | quiet(home) | {"HOME": str(home)}
