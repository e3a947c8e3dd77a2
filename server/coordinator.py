"""`python -m server.coordinator KIT`: a SuperLink with its state on disk and a process of its own for runs; both are kept alive.

A run goes on when the SuperLink is killed and started again, because its state lies in a database and the run's process
belongs to the SuperExec (measured with Flower 1.41).
"""

import argparse
import os
import secrets
import signal
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from nakt_fed.app_folder import STOPS, app_folder
from nakt_fed.cli.guarded import stop_by_signal
from nakt_fed.cli.words import any_letters, plain_error
from nakt_fed.errors import NaktError, RunError
from nakt_fed.flower_environment import direct, programs, quiet
from nakt_fed.keep_alive import Kept, kept_alive
from nakt_fed.locks import only_one
from nakt_fed.whole_file import draft_of

from .flower import last_words, script
from .kit import Kit, load_kit
from .registered import Registered

START_SECONDS, LOOK_SECONDS = 60.0, 2.0
# With an arena for each of gRPC's threads glibc would keep what every message once took: memory would grow with the pictures
LEAN = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(2**18)}


def main() -> None:
    """Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 it could not start."""
    parser = argparse.ArgumentParser(prog="coordinator")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--direct", action="store_true", help="take the sites' connections without a proxy in front")
    options = parser.parse_args()
    any_letters()
    stop_by_signal()
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)  # `nakt coordinator` has blocked them while this was loaded
        kit = load_kit(options.kit)
        kit.state.mkdir(mode=0o700, exist_ok=True)
        with only_one(kit.state):
            serve(kit, kit.listen(options.direct))
    except KeyboardInterrupt:
        say("stopped")
    except NaktError as error:
        plain_error(str(error))
        sys.exit(1)


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def make_secret(path: Path) -> None:
    """What SuperLink and SuperExec know each other by, made once. A full disk leaves none, not an empty one that would stay."""
    if not path.exists():
        with draft_of(path) as draft:
            draft.touch(0o600)
            draft.write_text(secrets.token_hex(32))


def serve(kit: Kit, listen: str) -> None:
    """Keep the SuperLink and the SuperExec alive, and the registered sites what the kit says, until interrupted."""
    host, _, port = listen.rpartition(":")
    home, secret = kit.state / "flower", kit.state / "superexec.secret"
    (home / "work").mkdir(parents=True, exist_ok=True)
    make_secret(secret)
    address = kit.state / "address"
    with kept_alive(_programs(kit, host, port, secret, home), say) as look:
        try:
            _wait_until_healthy(kit, port, look)
            address.write_text(f"127.0.0.1:{port}")
            say(f"the coordinator listens on {listen}; end it with Ctrl-C")
            _stay(kit, look)
        finally:
            address.unlink(missing_ok=True)


def _stay(kit: Kit, look: Callable[[], None]) -> None:
    registered = Registered(kit)
    while True:
        try:
            registered.follow_kit(say)
        except RunError as error:  # the SuperLink is away just now
            say(f"sites could not be registered yet: {error}")
        for _ in range(10):
            look()
            time.sleep(LOOK_SECONDS / 10)


def _programs(kit: Kit, host: str, port: str, secret: Path, home: Path) -> list[Kept]:
    env = {
        **os.environ,
        **LEAN,
        **quiet(home),
        **direct(os.environ),
        **programs(os.environ),
        "PYTHONPATH": str(app_folder()),
    }
    tls = ["--ssl-ca-certfile", "ca.crt", "--ssl-certfile", "server.crt", "--ssl-keyfile", "server.key"]
    superlink = [
        *(sys.executable, "-P", "-m", "server.superlink", *_in(kit, tls)),
        *("--enable-supernode-auth", "--isolation", "process"),
        *("--disable-runtime-dependency-installation", "--database", str(kit.state / "superlink.db")),
        *("--host", host, "--port", port, "--superexec-auth-secret-file", str(secret)),
    ]
    superexec = [
        *(script("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{port}"),
        *("--root-certificates", str(kit.root_certificates), "--superexec-auth-secret-file", str(secret)),
    ]
    commands = {"superlink": superlink, "superexec": superexec}
    return [Kept(name, each, kit.state / f"{name}.log", env, home / "work") for name, each in commands.items()]


def _in(kit: Kit, options: list[str]) -> list[str]:
    return [option if option.startswith("--") else str(kit.folder / option) for option in options]


def _wait_until_healthy(kit: Kit, port: str, look: Callable[[], None]) -> None:
    context = ssl.create_default_context(cafile=str(kit.root_certificates))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        look()
        try:
            with opener.open(f"https://127.0.0.1:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    words = last_words((kit.state / "superlink.log").read_bytes()[-20_000:])
    raise RunError(f"the SuperLink did not start on port {port}; its log says:\n{words}")


if __name__ == "__main__":
    main()
