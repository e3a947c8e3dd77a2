"""Split a folder of annotated pictures into parts, as if each belonged to a site of its own; pictures are linked, not copied.

    python studies/split_folder.py FOLDER PART [PART ...]

FOLDER has images/ and masks/. Sorted by name, the pictures are dealt out in turn; a part that is named twice gets two shares.
"""

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description="Split a folder of annotated pictures into parts.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("parts", nargs="+", type=Path)
    options = parser.parse_args()
    names = sorted(path.name for path in (options.folder / "images").iterdir())
    for number, part in enumerate(options.parts):
        share = names[number :: len(options.parts)]
        for kind in ("images", "masks"):
            (part / kind).mkdir(parents=True, exist_ok=True)
            for name in share:
                (part / kind / name).symlink_to((options.folder / kind / name).resolve())
        print(f"{part}: {len(share)} pictures more")


if __name__ == "__main__":
    main()
