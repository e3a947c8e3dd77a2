"""Copy a run's stored answers, with some sites under an attack, so that `nakt sweep` measures students of bad sites.

    python studies/attacked_run.py RUN OUT ATTACK SITE [SITE ...]

OUT is a run folder with the pictures, the answers and the study, and nothing that was made of them.
"""

import argparse
import shutil
from pathlib import Path

from nakt_fed.attacks import ATTACKS, attacked
from nakt_fed.replay.stored import StoredRun

KEPT = ("study.toml", "manifest.json", "masks.zarr", "pictures.zarr", "tests", "events.jsonl", ".lock")


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy a run with some sites under an attack.")
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("attack", choices=ATTACKS)
    parser.add_argument("sites", nargs="+")
    options = parser.parse_args()
    options.out.mkdir(parents=True)
    for path in (options.run / name for name in KEPT):
        if path.exists():
            (shutil.copytree if path.is_dir() else shutil.copy)(path, options.out / path.name)
    run = StoredRun(options.out)
    for shared in (run.transferal, *run.tests.values()):
        for site in options.sites:
            for number, rows in enumerate(shared.masks.chunks):
                ids = [f"{shared.name} {row}" for row in rows]
                masks = shared.masks.read(site, number)
                shared.masks.write(site, number, attacked(options.attack, masks, ids, run.study.study.seed))


if __name__ == "__main__":
    main()
