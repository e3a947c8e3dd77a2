"""Serves the status page until Ctrl-C."""

import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn

from nakt_fed.errors import RunError
from nakt_fed.status.page.app import status_app
from nakt_fed.status.page.guard import is_loopback
from nakt_fed.status.reader import RunReader

CONNECTIONS = 64
"""At once; more are refused."""
ANY = ("0.0.0.0", "::")


def serve(reader: RunReader, host: str, port: int, say: Callable[[str], None]) -> None:
    """Say the page's address and serve it until Ctrl-C or SIGTERM.

    Raises:
        RunError: this address cannot be listened on.
    """
    local = is_loopback(host)
    with _listening(host, port) as listener:
        if not local:
            say(
                "warning: whoever reaches this address can read the page: it has no login and is not encrypted; it is read-only"
            )
        say(f"run {reader.folder}")
        say(f"its page: {_address(host, listener.getsockname()[1])} (Ctrl-C ends the page, not the run)")
        config = uvicorn.Config(
            status_app(reader, local=local),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run([listener])


def _listening(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host.strip("[]"), port), family=family)
    except OSError as error:
        raise RunError(
            f"the page cannot be served at {host} port {port} ({error.strerror or error}); give another --host or --port"
        ) from None


def _address(host: str, port: int) -> str:
    name = socket.gethostname() if host in ANY else host.strip("[]")
    return f"http://[{name}]:{port}/" if ":" in name else f"http://{name}:{port}/"
