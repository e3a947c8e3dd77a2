import logging
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

import sites.app
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.exchange import Reply, Request
from nakt_fed.site.cache import Cached
from nakt_fed.site.relay import ask_service
from nakt_fed.study.file import dump_study, load_study
from server.grid import FlowerSites, with_meta
from server.messages import read_message
from server.presence import Presence
from sites.app import app
from tests.nakt_fed.site.desk import Echo, served
from tests.server.fake_grid import FakeGrid

ROOT = Path(__file__).parents[2]

STUDY = """
[study]
name = "tiny"
image_size = 32
[transferal]
images = ["site/images"]
[student]
network = "unet"
width = 4
[[site]]
name = "one"
images = "site/images"
masks = "site/masks"
teacher = { network = "unet", width = 4 }
[[site]]
name = "two"
images = "site/images"
masks = "site/masks"
teacher = { network = "unet", width = 4 }
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    write_folder(synthetic_set(4, 32, seed=1), tmp_path / "site")
    (tmp_path / "study.toml").write_text(STUDY)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "study.toml").write_text(dump_study(load_study(tmp_path / "study.toml")))
    return folder


def node(partition: int | None, partitions: int = 2) -> Context:
    config = {} if partition is None else {"partition-id": partition, "num-partitions": partitions}
    return Context(run_id=1, node_id=5, node_config=config, state=RecordDict(), run_config={})


def ask(context: Context, request: Request, run: Path | str) -> Reply:
    grid = FakeGrid({5: lambda message: app(message, context)})
    presence = Presence(["x"], lambda: {"x": 5}, patience=0)
    (done,) = FlowerSites(grid, presence, 1, 60, with_meta({"run": str(run)})).exchange({"x": iter([request])})
    return done.reply


@pytest.mark.parametrize(("partition", "name"), [(0, "one"), (1, "two")])
def test_a_simulated_node_is_the_site_of_its_number(run: Path, partition: int, name: str) -> None:
    reply = ask(node(partition), Request("hello"), run)
    assert reply.ok
    assert reply.meta["site"] == name


def test_the_services_refusal_crosses(run: Path) -> None:
    reply = ask(node(0), Request("masks", {"set": "never offered", "range": [0, 1]}), run)
    assert not reply.ok
    assert reply.meta["reason"] == "bad_data"


def test_an_exception_stays_at_the_site(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="flwr"):
        logging.getLogger("flwr").addHandler(caplog.handler)
        reply = ask(node(0), Request("hello"), "/secret/patient-name")
        logging.getLogger("flwr").removeHandler(caplog.handler)
    assert not reply.ok
    assert reply.meta["reason"] == "internal"
    assert "secret" not in str(reply.meta)
    assert reply.meta["reference"] in caplog.text
    assert "/secret/patient-name" in caplog.text


def test_a_message_that_is_none_of_ours_is_answered_too() -> None:
    grid = FakeGrid({})
    message = Message(RecordDict({"meta": ConfigRecord({})}), 5, "query")
    grid.push_messages([message])
    assert read_message(app(message, node(0)))[0].meta["reason"] == "internal"


def test_more_nodes_than_sites(run: Path) -> None:
    assert ask(node(2, partitions=3), Request("hello"), run).meta["reason"] == "no_site"


def test_fewer_nodes_than_sites(run: Path) -> None:
    reply = ask(node(0, partitions=1), Request("hello"), run)
    assert reply.meta["reason"] == "too_few_nodes"
    assert "num-supernodes=2" in reply.meta["message"]


def at_a_site(**config: str) -> Context:
    return Context(run_id=1, node_id=5, node_config={**config}, state=RecordDict(), run_config={})


def test_in_a_deployment_the_service_on_the_sites_socket_is_asked(tmp_path: Path) -> None:
    echo = Echo()
    with served(echo, tmp_path / "socket"):
        reply = ask(at_a_site(service=str(tmp_path / "socket")), Request("masks", {"set": "a"}, b"blob"), "")
    assert (reply.ok, reply.meta["kind"], reply.meta["set"], reply.blob) == (True, "masks", "a", b"blob")
    assert [request.kind for request in echo.asked] == ["masks"]


def test_a_supernode_that_knows_no_service() -> None:
    reply = ask(at_a_site(), Request("hello"), "")
    assert reply.meta["reason"] == "no_service"
    assert "nakt site start" in reply.meta["message"]


def test_no_service_at_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sites.app, "ask_service", partial(ask_service, patience=0))
    reply = ask(at_a_site(service=str(tmp_path / "secret-folder")), Request("hello"), "")
    assert reply.meta["reason"] == "no_service"
    assert "secret" not in str(reply.meta)


def test_what_is_no_teacher_service_is_a_reference_number(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other, ThreadPoolExecutor() as pool:
        other.bind(str(tmp_path / "socket"))
        other.listen()
        pool.submit(say_something_else, other)
        reply = ask(at_a_site(service=str(tmp_path / "socket")), Request("hello"), "")
    assert reply.meta["reason"] == "internal"
    assert "private" not in str(reply.meta)


def say_something_else(listener: socket.socket) -> None:
    sock, _ = listener.accept()
    with sock:
        sock.recv(9999)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n/private/x.y")


@pytest.mark.slow
def test_from_start_to_the_answer_of_a_cached_chunk_in_3_seconds(tmp_path: Path) -> None:
    """A process as Flower starts one per message: it loads the app and relays a chunk of 256 masks of 384² (8 MB)."""
    cached = Cached(Echo(), tmp_path / "cache")
    request = Request("masks", {"manifest": "0" * 64, "range": [0, 256]}, os.urandom(8_000_000))
    cached.handle(request)
    code = (
        "import sys; from pathlib import Path; import sites.app; from nakt_fed.exchange import Request; "
        "reply = sites.app.ask_service(Path(sys.argv[1]), Request('masks', {'manifest': '0' * 64, 'range': [0, 256]}), 9); "
        "sys.exit(len(reply.blob) != 8_000_000)"
    )
    with served(cached, tmp_path / "socket"):
        began = time.monotonic()
        command = [sys.executable, "-c", code, str(tmp_path / "socket")]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
        assert time.monotonic() - began <= 3


def test_loading_the_app_does_not_load_torch() -> None:
    """In a deployment every message starts a process."""
    code = "import sys, sites.app; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
