"""A whole tiny study through Flower's simulation, by `run_flower` and by the user's own `flwr run .`."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.flower_environment import free_port
from nakt_fed.processes import guarded
from nakt_fed.study.file import dump_study, load_study
from server.flower import script
from simulation.flower import run_flower
from simulation.oracle import run_in_process
from tests.watch import started

ROOT = Path(__file__).parents[2]
SITE = """
[[site]]
name = "{name}"
images = "{name}/images"
masks = "{name}/masks"
test_share = 0.25
teacher = {{ network = "unet", width = 4, epochs = 1 }}
"""
STUDY = """
[study]
name = "tiny"
seed = 3
image_size = 32
[transferal]
images = ["transferal/images"]
views = 1
[fusion]
weighting = "shapley"  # looks at all answers before it fuses any
options = { gate = 0.5 }
[filter]
enabled = false
[student]
network = "unet"
width = 4
epochs = 1
[fine_tune]
at_sites = true
epochs = 2
[round]
chunk_mb = 0.00512  # 5 pictures
[resources]
site_threads = 1
student_threads = 1
sites_at_once = 2
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    for seed, (name, count) in enumerate({"one": 40, "two": 44, "transferal": 12}.items()):
        write_folder(synthetic_set(count, 32, seed), tmp_path / name)
    (tmp_path / "study.toml").write_text(STUDY + SITE.format(name="one") + SITE.format(name="two"))
    return tmp_path / "study.toml"


def new_run(study: Path, name: str) -> Path:
    run = study.parent / name
    run.mkdir()
    (run / "study.toml").write_text(dump_study(load_study(study)), encoding="utf-8")
    return run


def _arrays(path: Path) -> dict[str, Any]:
    members = zarr.open_group(path, mode="r").members(max_depth=None)
    return {name: member for name, member in members if isinstance(member, zarr.Array)}


def assert_same_masks(run: Path, oracle: Path) -> None:
    for store in ("masks.zarr", "tests/one/masks.zarr", "tests/two/masks.zarr"):
        ours, theirs = (_arrays(folder / store) for folder in (run, oracle))
        assert ours.keys() == theirs.keys()
        assert any(name.startswith("masks/") for name in ours)
        for name in ours:
            np.testing.assert_array_equal(np.asarray(ours[name]), np.asarray(theirs[name]), err_msg=f"{store}/{name}")
    assert (run / "filter.csv").read_text() == (oracle / "filter.csv").read_text()


def assert_same_at_sites(run: Path, oracle: Path) -> None:
    """What the sites told of the students that they keep, and these students."""
    ours, theirs = (json.loads((folder / "results.json").read_text())["personalised"] for folder in (run, oracle))
    assert ours == theirs
    assert {site: score["n"] for site, score in ours.items()} == {"one": 10, "two": 11}
    kept = [sorted(folder.glob("sites/*/personalised/*/student.safetensors")) for folder in (run, oracle)]
    assert [len(each) for each in kept] == [2, 2]
    for mine, other in zip(*kept, strict=True):
        assert mine.parent.name == other.parent.name
        assert mine.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_flower_gives_what_the_oracle_gives(study: Path) -> None:
    run, oracle, kinds = new_run(study, "flower"), new_run(study, "oracle"), []
    run_in_process(load_study(study), oracle)
    run_flower(study, run, False, lambda event: kinds.append(event["kind"]))
    assert_same_masks(run, oracle)
    assert (run / "student.safetensors").read_bytes() == (oracle / "student.safetensors").read_bytes()
    assert_same_at_sites(run, oracle)
    assert kinds[-1] == "done"
    assert {"stage", "epoch", "site"} <= set(kinds)
    assert (run / "report.html").exists()
    assert started() == set()


@pytest.mark.slow
@pytest.mark.soak
def test_sites_of_different_classes_give_through_flower_what_the_oracle_gives(study: Path) -> None:
    two = SITE.format(name="two").replace('"two/masks"', '{ nodule = "two/masks", lesion = "two/masks" }')
    one = SITE.format(name="one").replace('"one/masks"', '{ lesion = "one/masks" }')
    one_class_only = "[fine_tune]\nat_sites = true\nepochs = 2\n"
    assert one_class_only in STUDY
    judged = STUDY.replace(one_class_only, "").replace("[round]", "[round]\njudge_student = true")
    study.write_text(judged + one + two)
    run, oracle = new_run(study, "flower"), new_run(study, "oracle")
    run_in_process(load_study(study), oracle)
    run_flower(study, run, False, lambda event: None)
    for label in ("lesion", "nodule"):
        names = (
            f"masks.zarr/masks/two~{label}",
            f"classes/{label}/masks.zarr/pseudo",
            f"tests/two/masks.zarr/masks/student~{label}",
        )
        for name in names:
            ours, theirs = (np.asarray(zarr.open_array(folder / name, mode="r")) for folder in (run, oracle))
            np.testing.assert_array_equal(ours, theirs, err_msg=name)
        verdicts = (folder / "classes" / label / "filter.csv" for folder in (run, oracle))
        assert len({path.read_text() for path in verdicts}) == 1
    assert (run / "student.safetensors").read_bytes() == (oracle / "student.safetensors").read_bytes()
    ours, theirs = (json.loads((folder / "results.json").read_text()) for folder in (run, oracle))
    assert [ours[key] for key in ("dice", "at_sites")] == [theirs[key] for key in ("dice", "at_sites")]
    assert {title: score["n"] for title, score in ours["at_sites"].items()} == {
        "one:lesion": 10, "two:lesion": 11, "two:nodule": 11
    }  # fmt: skip


def users_environment(home: Path) -> dict[str, str]:
    """What README tells a user of `flwr run .` to set; with a Flower home of our own besides."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("FLWR_", "RAY_"))}
    return kept | {
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(home),
        "PATH": f"{Path(script('flwr')).parent}{os.pathsep}{os.environ['PATH']}",
    }


@contextmanager
def local_superlink(home: Path, env: dict[str, str]) -> Iterator[None]:
    """The one that `flwr run . local` would start by itself, but on a free port, without its deadline, and ended."""
    home.mkdir()
    port = free_port()
    (home / "config.toml").write_text(f'[superlink.local]\naddress = "127.0.0.1:{port}"\ninsecure = true\n')
    command = [script("flower-superlink"), "--insecure", "--simulation", "--host", "127.0.0.1", "--port", str(port)]
    with (home / "superlink.log").open("wb") as log, guarded(command, env=env, sink=log, cwd=ROOT):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        yield


def flwr_run(study: Path, run: Path, nodes: int) -> tuple[str, str]:
    """`flwr run .` in the checkout as a user types it; returns its output and the status of the run."""
    env = users_environment(study.parent / "flwr-home")
    options = ["--federation-config", f"num-supernodes={nodes} client-resources-num-cpus=1"]
    options += ["--run-config", f'study="{study}" run-dir="{run}"']
    with local_superlink(study.parent / "flwr-home", env):
        words = [
            [script("flwr"), "run", ".", "local", "--stream", *options],
            [script("flwr"), "ls", "local", "--format", "json"],
        ]
        done, listed = (subprocess.run(each, cwd=ROOT, env=env, capture_output=True, text=True) for each in words)
    return done.stdout + done.stderr, json.loads(listed.stdout)["runs"][0]["status"]


@pytest.mark.slow
def test_flwr_run_does_the_same(study: Path) -> None:
    oracle = new_run(study, "oracle")
    run_in_process(load_study(study), oracle)
    output, status = flwr_run(study, study.parent / "run", nodes=2)
    assert status == "finished:completed", output
    assert_same_masks(study.parent / "run", oracle)
    assert (study.parent / "run" / "report.html").exists()


@pytest.mark.slow
@pytest.mark.soak
def test_flwr_run_with_too_few_nodes_says_what_to_add(study: Path) -> None:
    output, status = flwr_run(study, study.parent / "run", nodes=1)
    assert status == "finished:failed"
    assert "start it with --federation-config 'num-supernodes=2'" in output
