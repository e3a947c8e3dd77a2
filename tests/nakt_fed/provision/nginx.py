"""A real nginx with a kit's configuration, for tests."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/opt/homebrew/bin")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def nginx(kit: Path, prefix: Path, *options: str) -> list[str]:
    """The command."""
    prefix.mkdir(exist_ok=True)
    return [str(NGINX), "-e", "stderr", "-p", f"{prefix}/", "-c", str(kit / "nginx.conf"), *options]


@contextmanager
def running_nginx(kit: Path, prefix: Path, port: int) -> Iterator[None]:
    command = nginx(kit, prefix, "-g", "daemon off; master_process off;")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_for(port)
        yield
    finally:
        process.terminate()
        process.wait(10)


def wait_for(port: int, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as each:
            if each.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")
