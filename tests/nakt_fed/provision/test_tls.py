"""What the certificates are for: a real handshake on loopback."""

import asyncio
import ssl
from pathlib import Path

import pytest

from nakt_fed.provision.kits import provision


def kits(folder: Path, host: str) -> Path:
    folder.mkdir()
    path = folder / "federation.toml"
    path.write_text(f'[federation]\nname = "breast"\n[coordinator]\nhost = "{host}"\n[[site]]\nname = "hospital-1"\n')
    provision(path, folder / "kits")
    return folder / "kits"


def handshake(server: Path, authority: Path, name: str) -> str:
    """Dial a server with that kit's certificate as `name`, believing that authority; what the client hears."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offered.load_cert_chain(server / "coordinator" / "server.crt", server / "coordinator" / "server.key")
    wanted = ssl.create_default_context(cafile=str(authority))
    wanted.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
    return asyncio.run(_dial(offered, wanted, name))


async def _dial(offered: ssl.SSLContext, wanted: ssl.SSLContext, name: str) -> str:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=offered)
    port = server.sockets[0].getsockname()[1]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=wanted, server_hostname=name)
        heard = (await reader.readline()).decode().strip()
        writer.close()
        return heard
    finally:
        server.close()


@pytest.mark.parametrize(
    ("host", "dialled"),
    [
        ("coordinator.example.org", "coordinator.example.org"),
        ("192.0.2.7", "192.0.2.7"),
        ("coordinator.example.org", "127.0.0.1"),  # on its own machine: the proxy, `nakt run`, Flower's executor
        ("127.0.0.1", "localhost"),
        ("a" * 63 + ".example.org", "a" * 63 + ".example.org"),
    ],
)
def test_a_site_believes_its_coordinator(tmp_path: Path, host: str, dialled: str) -> None:
    root = kits(tmp_path / "f", host)
    assert handshake(root, root / "hospital-1" / "ca.crt", dialled) == "hello"


def test_a_site_believes_no_other_server(tmp_path: Path) -> None:
    root, other = kits(tmp_path / "f", "127.0.0.1"), kits(tmp_path / "g", "127.0.0.1")
    with pytest.raises(
        ssl.SSLCertVerificationError, match=r"self-signed certificate|unable to get local issuer|signature"
    ):
        handshake(other, root / "hospital-1" / "ca.crt", "127.0.0.1")


def test_the_certificate_is_for_no_other_host(tmp_path: Path) -> None:
    root = kits(tmp_path / "f", "coordinator.example.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="match"):
        handshake(root, root / "hospital-1" / "ca.crt", "elsewhere.example.org")


def test_a_renewed_certificate_is_believed_by_sites_that_know_nothing_of_it(tmp_path: Path) -> None:
    root = kits(tmp_path / "f", "127.0.0.1")
    before = (root / "coordinator" / "server.crt").read_bytes()
    provision(tmp_path / "f" / "federation.toml", root, renew=True)
    assert (root / "coordinator" / "server.crt").read_bytes() != before
    assert handshake(root, root / "hospital-1" / "ca.crt", "127.0.0.1") == "hello"
