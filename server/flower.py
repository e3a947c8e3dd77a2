"""What every start of Flower needs, in a simulation and in a deployment: its programs, a bundle of our apps, an environment."""

import re
import shutil
import sysconfig
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

LINES = 10  # of a log in an error message


def script(name: str) -> str:
    """A command of the packages that this Python has, whether or not its environment is activated."""
    return str(Path(sysconfig.get_path("scripts"), name))


def threads(count: int) -> dict[str, str]:
    """No library takes more threads than this."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(count))


def connect(home: Path, address: str, root_certificates: Path | None = None) -> None:
    """Tell `flwr` where the SuperLink is; the connection is called `nakt`. Without certificates it is a plain one."""
    tls = {"root-certificates": str(root_certificates)} if root_certificates else {"insecure": True}
    write(home / "config.toml", {"superlink": {"default": "nakt", "nakt": {"address": address, **tls}}})


def bundle(home: Path, app_folder: Path) -> Path:
    """Copy what Flower ships to its workers: the two apps and their settings, not the library.

    Flower bundles Python files only: a bundled copy of the library would lack its other files (demo pictures, report
    templates) and hide the complete one.
    """
    target = home / "app"
    for name in ("server", "sites"):
        shutil.copytree(app_folder / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = tomllib.loads((app_folder / "pyproject.toml").read_text(encoding="utf-8"))
    settings["tool"]["flwr"]["app"].pop("fab-include", None)
    project = {key: settings["project"][key] for key in ("name", "version", "description", "license")}
    write(target / "pyproject.toml", {"project": project, "tool": {"flwr": settings["tool"]["flwr"]}})
    return target


def run_settings(home: Path, settings: Mapping[str, Any]) -> Path:
    """Flower's --run-config as a file: paths with spaces or quotes survive."""
    path = home / "run-config.toml"
    write(path, settings)
    return path


def write(path: Path, table: Mapping[str, Any]) -> None:
    """A TOML file."""
    path.write_text(tomli_w.dumps(dict(table)), encoding="utf-8")


def last_words(log: bytes) -> str:
    """What a failed log says: its exceptions, the first of which is the cause of the others, or else its last lines.

    Without colours and without the general advice that Flower adds to its exit codes.
    """
    plain = re.sub(r"\x1b\[\d*m", "", log.decode(errors="replace"))
    lines = re.split(r"ERROR *: *Exit Code", plain)[0].rstrip().splitlines()
    exceptions = dict.fromkeys(line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b.*: ", line))
    return "\n".join([*exceptions][:LINES] or lines[-LINES:])
