"""`python -m server.fab`: the SHA-256 of the Flower bundle that this nakt-fed sends to sites, as `flwr run` makes it."""

import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from nakt_fed.app_folder import app_folder
from nakt_fed.errors import RunError
from nakt_fed.flower_environment import quiet

from .flower import bundle, last_words, script


def built(app: Path, into: Path) -> bytes:
    """The bundle of the app in a folder, left in another folder too. Raises RunError: Flower cannot make it."""
    env = {**os.environ, **quiet(into)}
    done = subprocess.run([script("flwr"), "build", "--app", str(app)], env=env, cwd=into, capture_output=True)
    bundles = list(into.glob("*.fab"))
    if done.returncode or len(bundles) != 1:
        raise RunError(f"the app could not be bundled: {last_words(done.stdout + done.stderr)}; install nakt-fed again")
    return bundles[0].read_bytes()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="nakt-") as name:
        home = Path(name)
        print(hashlib.sha256(built(bundle(home, app_folder()), home)).hexdigest())
