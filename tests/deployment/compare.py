"""The oracle's run, and whether another run has the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from nakt_fed.classes import class_folder, planes, union
from simulation.oracle import run_in_process
from tests.conftest import replace_report
from tests.deployment.federation import Federation
from tests.deployment.studies import Asked


def oracle_of(federation: Federation, name: str, **tables: Any) -> Path:
    """The run folder of the same study, carried out in this process."""
    run = federation.root / f"oracle-{name}"
    run.mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        replace_report(monkeypatch)
        run_in_process(federation.local_study(name, **tables), run)
    return run


def stored(run: Path) -> dict[str, Any]:
    """`pseudo`, and `masks/<site>` of each site that has answered."""
    members = dict(zarr.open_group(run / "masks.zarr", mode="r").members(max_depth=None))
    wanted = {name: each for name, each in members.items() if name == "pseudo" or name.startswith("masks/")}
    return {name: np.asarray(each) for name, each in wanted.items()}


def assert_same_masks(run: Path, oracle: Path) -> None:
    """Every site's masks, the fused ones and filter.csv."""
    _assert_same_stacks(run, oracle, {"pseudo", *(f"masks/{site}" for site in ("ann", "bob"))})
    assert (run / "filter.csv").read_bytes() == (oracle / "filter.csv").read_bytes()


def assert_same_classes(run: Path, oracle: Path, asked: Asked) -> None:
    """The same per class, and the student's own pseudo masks."""
    _assert_same_stacks(run, oracle, {f"masks/{plane}" for site in asked for plane in planes(site, asked[site])})
    for label in union(asked.values()):
        ours, theirs = (class_folder(folder, label) for folder in (run, oracle))
        _assert_same_stacks(ours, theirs, {"pseudo"})
        assert (ours / "filter.csv").read_bytes() == (theirs / "filter.csv").read_bytes()
    for name in ("masks", "known"):
        mine, other = (np.asarray(zarr.open_array(folder / "pseudo.zarr" / name)) for folder in (run, oracle))
        np.testing.assert_array_equal(mine, other, err_msg=name)


def _assert_same_stacks(run: Path, oracle: Path, names: set[str]) -> None:
    ours, theirs = stored(run), stored(oracle)
    assert ours.keys() == theirs.keys() == names
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
