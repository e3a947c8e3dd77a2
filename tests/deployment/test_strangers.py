"""Who is not a registered site over TLS gets nothing from a real SuperLink, and a site talks to no other coordinator."""

import datetime
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeRequest, PullMessagesRequest, RegisterNodeFleetRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes
from flwr.supernode import node_auth_http_interceptor as auth
from flwr.supernode.fleet_http_client import FleetHttpClient

from nakt_fed.provision.keys import new_site_key
from nakt_fed.provision.kits import provision
from tests.deployment.federation import Federation
from tests.deployment.rogue import client_of, node_of, rows
from tests.deployment.running import Started, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, Started]]:
    with Federation(tmp_path_factory.mktemp("strangers"), names=("ann",)) as federation:
        yield federation, federation.start_coordinator()


@pytest.fixture
def federation(parts: tuple[Federation, Started]) -> Federation:
    return parts[0]


def dial(federation: Federation, *interceptors: Any, insecure: bool = False) -> FleetHttpClient:
    authority = None if insecure else (federation.kit / "ca.crt").read_bytes()
    return FleetHttpClient.from_server_address(f"127.0.0.1:{federation.port}", insecure, authority, interceptors)


def online(federation: Federation) -> list[Any]:
    return [node["status"] for node in rows(federation, "SELECT * FROM node")]


def test_an_unknown_key_may_neither_come_nor_register_itself(federation: Federation) -> None:
    private, public = generate_key_pairs()
    pem = public_key_to_bytes(public)
    with dial(federation, auth.NodeAuthHttpInterceptor(private, public)) as client:
        with pytest.raises(httpx.HTTPStatusError, match="412"):
            client.ActivateNode(ActivateNodeRequest(public_key=pem, heartbeat_interval=30))
        with pytest.raises(httpx.HTTPStatusError, match="412"):
            client.RegisterNode(RegisterNodeFleetRequest(public_key=pem))
        with pytest.raises(httpx.HTTPStatusError, match="401"):
            client.PullMessages(PullMessagesRequest(node=Node(node_id=node_of(federation, "ann"))))
    assert len(online(federation)) == 1


def test_a_registered_number_without_its_key_is_refused(federation: Federation) -> None:
    with dial(federation) as client, pytest.raises(httpx.HTTPStatusError, match="401"):
        client.PullMessages(PullMessagesRequest(node=Node(node_id=node_of(federation, "ann"))))


def test_a_request_that_was_signed_ten_minutes_ago_is_refused(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recorded and sent again. Within Flower's five minutes it is TLS that keeps it from being recorded."""
    then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=10)
    client, public = client_of(federation, "ann")
    monkeypatch.setattr(auth, "now", lambda: then)
    with client, pytest.raises(httpx.HTTPStatusError, match="401"):
        client.ActivateNode(ActivateNodeRequest(public_key=public, heartbeat_interval=30))


def test_plain_text_is_not_answered(federation: Federation) -> None:
    private, public = generate_key_pairs()
    with dial(federation, auth.NodeAuthHttpInterceptor(private, public), insecure=True) as client:
        with pytest.raises(httpx.TransportError):
            client.ActivateNode(ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30))
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{federation.port}/health")


def stranger(federation: Federation, name: str) -> Path:
    """ann's folder once more, in another place."""
    folder = federation.root / name
    shutil.copytree(federation.root / "ann", folder, ignore=shutil.ignore_patterns("state"))
    return folder


@pytest.mark.soak
def test_a_site_with_a_key_that_is_not_in_the_kit_is_sent_away(parts: tuple[Federation, Started]) -> None:
    """A whole site: it says so in its log, waits, and would try again."""
    federation, coordinator = parts
    folder = stranger(federation, "carl")
    (folder / "site.key").write_bytes(new_site_key())
    started = federation.start(Started, "carl", "site", "start", folder / "site.toml")
    started.wait_for("SuperNode ended")
    assert "started again in 70 s" in started.said
    assert "Failed to activate SuperNode" in (folder / "state" / "supernode.log").read_text()
    assert "No SuperNode found" in (federation.kit / "state" / "superlink.log").read_text()
    assert "online" not in online(federation)
    assert coordinator.process.poll() is None


@pytest.mark.soak
def test_a_site_talks_to_no_coordinator_of_another_authority(federation: Federation) -> None:
    """Its ca.crt is another federation's: nothing of it crosses, and its operator is told."""
    other = federation.root / "other"
    other.mkdir()
    text = (federation.root / "federation.toml").read_text()
    (other / "federation.toml").write_text(text)
    provision(other / "federation.toml", other / "kits")
    folder = stranger(federation, "dora")
    shutil.copy(other / "kits" / "ann" / "ca.crt", folder / "ca.crt")
    started = federation.start(Started, "dora", "site", "start", folder / "site.toml")
    started.wait_for("SuperNode dials")
    log = folder / "state" / "supernode.log"
    wait_for(lambda: "CERTIFICATE_VERIFY_FAILED" in log.read_text() or "ended" in started.said, 60, "the refusal")
    assert "CERTIFICATE_VERIFY_FAILED" in log.read_text()
    assert "online" not in online(federation)


def test_the_coordinators_certificate_is_not_believed_by_the_systems_authorities(federation: Federation) -> None:
    """Who dials without the kit's ca.crt is warned off, so nobody gets used to clicking it away."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"https://127.0.0.1:{federation.port}/health", verify=ssl.create_default_context())
