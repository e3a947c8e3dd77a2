"""The `flwr` command as functions: start, watch and stop a run, register sites. Every call is a process of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError
from nakt_fed.flower_environment import direct, quiet

from .flower import bundle, connect, last_words, run_settings, script
from .kit import Kit

SECONDS = 60.0  # a call takes about two


class Client:
    """Talks to a kit's SuperLink from a home folder of its own."""

    def __init__(self, kit: Kit, home: Path) -> None:
        self.kit, self.home = kit, home
        self._env = {**os.environ, **quiet(home), **direct(os.environ)}
        connect(home, kit.address(), kit.root_certificates)

    def start(self, settings: Mapping[str, Any]) -> int:
        """Bundle our two apps and start a run of them; returns Flower's run id. Raises RunError: it was refused."""
        return self.submit(bundle(self.home, app_folder()), settings)

    def submit(self, app: Path, settings: Mapping[str, Any]) -> int:
        """Start a run of the app in this folder; returns Flower's run id. Raises RunError: it was refused."""
        told = self._call("run", str(app), "nakt", "--run-config", str(run_settings(self.home, settings)))
        return int(told["run-id"])

    def status(self, run_id: int) -> str:
        """In Flower's words, such as `running` or `finished:completed`; empty when the SuperLink does not answer now."""
        try:
            run = self._call("ls", "nakt", "--run-id", str(run_id))["runs"][0]
        except (RunError, IndexError):
            return ""
        details = run.get("status-details", "N/A")
        return str(run["status"]) if details == "N/A" else f"{run['status']}: {details}"

    def stop(self, run_id: int) -> None:
        """End the run. Raises RunError: it cannot be ended now."""
        self._call("stop", str(run_id), "nakt")

    def register(self, key: Path, name: str) -> int:
        """Let a site in; returns its node's number in Flower. Raises RunError: refused."""
        return int(self._call("supernode", "register", str(key), "nakt", "--name", name)["node-id"])

    def unregister(self, node: int) -> None:
        """Let a site in no more."""
        self._call("supernode", "unregister", str(node), "nakt")

    def _call(self, *arguments: str) -> dict[str, Any]:
        command = [script("flwr"), *arguments, "--format", "json"]
        try:
            done = subprocess.run(command, env=self._env, cwd=self.home, capture_output=True, timeout=SECONDS)
            told = json.loads(done.stdout)
        except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
            words = last_words(getattr(error, "stdout", None) or b"") if not isinstance(error, ValueError) else ""
            shown = words or last_words(done.stdout + done.stderr)
            raise RunError(f"flwr {arguments[0]} gave no answer: {shown}") from None
        if not told.get("success", True):
            raise RunError(f"flwr {arguments[0]}: {told.get('error-message', told)}")
        return dict(told)
