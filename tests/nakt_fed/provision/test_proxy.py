"""The kit's nginx.conf in a real nginx: what a site may ask passes unchanged, nothing else gets through."""

import http.client
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nakt_fed.provision.kits import provision
from tests.nakt_fed.provision.nginx import NGINX, free_ports, nginx, running_nginx

pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine")
SIGNED = {"flwr-public-key": "cHVibGlj", "flwr-timestamp": "2026-01-01T00:00:00+00:00", "flwr-signature": "c2lnbg=="}


@dataclass
class Door:
    """nginx with a kit, in front of a TLS server that notes every request that reaches it."""

    kit: Path
    port: int
    reached: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def ask(self, path: str, method: str = "POST", body: bytes = b"x") -> int:
        context = ssl.create_default_context(cafile=str(self.kit / "ca.crt"))
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=10)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in {**SIGNED, "content-length": str(len(body))}.items():
                connection.putheader(name, value)
            connection.endheaders(body)
            return connection.getresponse().status
        finally:
            connection.close()


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    folder = tmp_path_factory.mktemp("proxy")
    port, inner = free_ports(2)
    (folder / "federation.toml").write_text(
        f'[federation]\nname = "f"\n[coordinator]\nhost = "127.0.0.1"\nport = {port}\ninner_port = {inner}\n'
    )
    provision(folder / "federation.toml", folder / "kits")
    door = Door(folder / "kits" / "coordinator", port)
    server = behind(door, inner)
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    try:
        with running_nginx(door.kit, folder / "nginx", port):
            yield door
    finally:
        server.shutdown()
        server.server_close()


def behind(door: Door, port: int) -> ThreadingHTTPServer:
    """In the place of the SuperLink."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            door.reached.append((self.command, self.path, headers, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        do_GET = do_PUT = do_DELETE = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(door.kit / "server.crt", door.kit / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    return server


def test_nginx_takes_the_configuration(door: Door, tmp_path: Path) -> None:
    done = subprocess.run(nginx(door.kit, tmp_path / "nginx", "-t"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_what_a_supernode_asks_passes_unchanged(door: Door) -> None:
    """Its three headers are its authentication; 6 MB is more than a piece of Flower's."""
    body = bytes(range(256)) * 24_000
    assert door.ask("/v1/fleet/push-object", body=body) == 200
    method, path, headers, came = door.reached[-1]
    assert (method, path, came) == ("POST", "/v1/fleet/push-object", body)
    assert headers.items() >= SIGNED.items()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/v1/control/list-runs",
            "/v1/control/start-run",
            "/v1/runtime/pull-task",
            "/health",
            "/docs",
            "/",
            "/v1/fleet",
        ),
        *("/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run", "/v1/fleet/..%2fcontrol/start-run"),
        *("/v1//control/start-run", "/v1/control/start-run?/v1/fleet/", "//v1/control/start-run", "/V1/FLEET/get-run"),
        *("/v1/control/start-run#/v1/fleet/", "http://127.0.0.1/v1/control/start-run"),
    ],
)
def test_all_else_is_refused_before_it_gets_through(door: Door, path: str) -> None:
    before = len(door.reached)
    assert door.ask(path) in (301, 400, 403)
    assert len(door.reached) == before


def test_a_detour_is_passed_on_as_it_was_understood(door: Door) -> None:
    """The server behind never sees the path as it was sent, so it cannot understand it otherwise."""
    assert door.ask("/v1/control/../fleet/%67et-run") == 200
    assert door.reached[-1][1] == "/v1/fleet/get-run"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_only_what_a_supernode_does_is_done(door: Door, method: str) -> None:
    before = len(door.reached)
    assert door.ask("/v1/fleet/get-run", method) == 403
    assert len(door.reached) == before


def test_a_message_that_is_too_large_is_refused(door: Door) -> None:
    context = ssl.create_default_context(cafile=str(door.kit / "ca.crt"))
    connection = http.client.HTTPSConnection("127.0.0.1", door.port, context=context, timeout=10)
    connection.putrequest("POST", "/v1/fleet/push-object")
    connection.putheader("content-length", str(65 * 2**20))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_plain_text_is_not_spoken(door: Door) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", door.port, timeout=10)
    connection.request("POST", "/v1/fleet/get-run", b"x")
    assert connection.getresponse().status == 400
    connection.close()


def test_what_was_refused_is_logged(door: Door) -> None:
    assert door.ask("/v1/control/list-runs-here") == 403
    log = door.kit.parent.parent / "nginx" / "refused.log"
    for _ in range(100):
        if "list-runs-here" in log.read_text():
            break
        time.sleep(0.02)
    lines = log.read_text()
    assert '"POST /v1/control/list-runs-here HTTP/1.1" 403' in lines
    assert '" 200 ' not in lines
