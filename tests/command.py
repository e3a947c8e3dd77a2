"""`nakt` as a user calls it, but in this process: exit code and everything it printed; and the study file it is given."""

import contextlib
import copy
import io
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import tomli_w

from nakt_fed import cli
from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.recipe import NetworkSpec
from nakt_fed.simulated_site import _service
from nakt_fed.teacher import fresh_network
from tests.tiny import megabytes

SIZE = 32
NETWORK: dict[str, Any] = {"network": "unet", "width": 2}
RAW: dict[str, Any] = {
    "study": {"name": "tiny", "image_size": SIZE},
    "site": [
        {
            "name": "ann",
            "images": "ann/images",
            "masks": "ann/masks",
            "teacher": NETWORK | {"checkpoint": "ann.safetensors"},
        },
        {
            "name": "bob",
            "images": "bob/images",
            "masks": "bob/masks",
            "teacher": NETWORK | {"checkpoint": "bob.safetensors"},
        },
    ],
    "transferal": {"images": ["organ/images"], "views": 1},
    "filter": {"max_entropy": 8.0, "min_target_pixels": 0, "min_kept": 2},
    "round": {"chunk_mb": megabytes(4)},
    "student": NETWORK | {"epochs": 1, "batch_size": 4},
    "test": [{"name": "outside", "images": "outside/images", "masks": "outside/masks"}],
    "resources": {"site_threads": 1, "student_threads": 1, "sites_at_once": 1},
}
"""Two sites whose teachers need no training; 14 pictures to answer, in 4 chunks."""


def write_teachers(folder: Path) -> None:
    """ann.safetensors and bob.safetensors: untrained networks, whose answers are soft."""
    for seed, name in enumerate(("ann", "bob")):
        spec = NetworkSpec(**NETWORK)
        save_checkpoint(folder / f"{name}.safetensors", fresh_network(spec, seed), spec, n_images=5, image_size=SIZE)


def study_file(
    folder: Path, change: Callable[[dict[str, Any]], object] = lambda raw: None, name: str = "study.toml"
) -> Path:
    """RAW as a file in `folder`, after `change` has done what it likes to it."""
    raw = copy.deepcopy(RAW)
    change(raw)
    (folder / name).write_text(tomli_w.dumps(raw), encoding="utf-8")
    return folder / name


@dataclass(frozen=True)
class Outcome:
    """What a user sees. `run` is the folder that was printed."""

    code: int
    out: str
    err: str

    @property
    def run(self) -> Path:
        return Path(next(line for line in self.out.splitlines() if line.startswith("run ")).removeprefix("run "))


def nakt(*arguments: str | Path) -> Outcome:
    """Call `nakt` as if in a new process. Raises whatever it would show as a traceback."""
    _service.cache_clear()
    out, err = io.StringIO(), io.StringIO()
    handlers = {stop: signal.getsignal(stop) for stop in (signal.SIGINT, signal.SIGTERM)}
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch("os.execve", _become),
            mock.patch.object(sys, "argv", ["nakt", *map(str, arguments)]),
        ):
            cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        for stop, handler in handlers.items():
            signal.signal(stop, handler)
        _service.cache_clear()
    return Outcome(code, out.getvalue(), err.getvalue())


def run(study: Path, *arguments: str | Path) -> Outcome:
    """`nakt run` in process; run folders go beside the study."""
    return nakt("run", study, "--engine", "in-process", "--runs", study.parent / "runs", *arguments)


def resume(folder: Path, *arguments: str | Path) -> Outcome:
    """`nakt run --resume` in process."""
    return nakt("run", *arguments, "--resume", folder, "--engine", "in-process")


def _become(program: str, arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Stands in for execve: `python -P -m simulation` is called instead of started."""
    from simulation.__main__ import main

    assert arguments[:4] == [program, "-P", "-m", "simulation"]
    assert environment["PYTHONPATH"]
    with mock.patch.object(sys, "argv", arguments[3:]):
        main()
    raise SystemExit(0)
