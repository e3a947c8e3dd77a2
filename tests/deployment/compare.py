"""The oracle's run, and whether another run has the same bytes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from simulation.oracle import run_in_process
from tests.conftest import replace_report
from tests.deployment.federation import Federation


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
    ours, theirs = stored(run), stored(oracle)
    assert ours.keys() == theirs.keys()
    assert len(ours) == 3
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
    assert (run / "filter.csv").read_bytes() == (oracle / "filter.csv").read_bytes()
