import logging
import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.exchange import Reply, Request
from nakt_fed.study_file import dump_study, load_study
from server.grid import FlowerSites, read_message
from sites.app import app
from tests.server.fake_grid import FakeGrid

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
    (done,) = FlowerSites(grid, {"x": 5}, 1, 60, {"run": str(run)}).exchange({"x": iter([request])})
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
    message = Message(RecordDict({"meta": ConfigRecord({})}), 5, "query.masks")
    grid.push_messages([message])
    assert read_message(app(message, node(0))).meta["reason"] == "internal"


def test_more_nodes_than_sites(run: Path) -> None:
    assert ask(node(2, partitions=3), Request("hello"), run).meta["reason"] == "no_site"


def test_fewer_nodes_than_sites(run: Path) -> None:
    reply = ask(node(0, partitions=1), Request("hello"), run)
    assert reply.meta["reason"] == "too_few_nodes"
    assert "num-supernodes=2" in reply.meta["message"]


def test_outside_a_simulation(run: Path) -> None:
    reply = ask(node(None), Request("hello"), run)
    assert reply.meta["reason"] == "no_service"
    assert "simulated sites only" in reply.meta["message"]


def test_loading_the_app_does_not_load_torch() -> None:
    """In a deployment every message starts a process."""
    code = "import sys, sites.app; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
