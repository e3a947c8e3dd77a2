"""The rows of a sweep: as JSON for `nakt compare`, as CSV for a spreadsheet, as a table for the terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from nakt_fed.replay.sweep_file import Setting
from nakt_fed.whole_file import write_csv, write_json

Row = dict[str, Any]


def row_of(setting: Setting, result: Mapping[str, Any], seconds: float) -> Row:
    """{"cell", "settings", "seed", "per_image"}, how many pictures were kept, a student's agreement with the pseudo masks, seconds."""
    row: Row = {"cell": setting.name, "settings": setting.told, "seed": setting.seed, "per_image": result["per_image"]}
    return {**row, "kept": result["kept"], "agreement": result.get("agreement"), "seconds": seconds}


def lists_of(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows that are compared with each other: "masks" (Dice of the pseudo masks) and "students".

    The filter does not touch the masks of test pictures, so "masks" has each weighting once, as a cell of its name.
    """
    masks: dict[str, Row] = {}
    for row in rows:
        if row["settings"]["student"] == "none":
            masks.setdefault(row["settings"]["weighting"], {**row, "cell": row["settings"]["weighting"]})
    students = [row for row in rows if row["settings"]["student"] != "none"]
    return {"masks": list(masks.values()), "students": students}


def write_rows(rows: Sequence[Row], folder: Path) -> list[Path]:
    """masks.json and students.json (`lists_of`), of what there is, and rows.csv with every cell."""
    lists = lists_of(rows)
    files = [folder / f"{name}.json" for name, part in lists.items() if part]
    for path in files:
        write_json(path, lists[path.stem])
    return [*files, _csv(rows, folder / "rows.csv")] if rows else files


def means(row: Row) -> dict[str, float]:
    """Mean Dice in % per test set, and over the test sets."""
    sets: dict[str, list[float]] = {}
    for picture, value in row["per_image"].items():
        sets.setdefault(picture.partition("/")[0], []).append(value)
    each = {name: round(100 * fmean(values), 2) for name, values in sets.items()}
    return {**each, "mean": round(fmean(each.values()), 2)} if each else {}


def _csv(rows: Sequence[Row], path: Path) -> Path:
    flat = [
        {
            "cell": row["cell"],
            **row["settings"],
            "seed": row["seed"],
            "kept": row["kept"],
            **means(row),
            "agreement": row["agreement"],
            "seconds": row["seconds"],
        }
        for row in rows
    ]
    header = list(dict.fromkeys(key for row in flat for key in row))
    return write_csv(path, header, ([row.get(key, "") for key in header] for row in flat))


def mean_table(rows: Sequence[Row]) -> str:
    """One line per row, the best mean first: mean Dice in % over the test sets, pictures kept, cell and seed."""
    ordered = sorted(rows, key=lambda row: -means(row).get("mean", 0))
    width = max((len(row["cell"]) for row in ordered), default=4)
    lines = [f"{'cell':<{width}}  seed   mean   kept"]
    for row in ordered:
        mean = means(row).get("mean")
        lines.append(
            f"{row['cell']:<{width}}  {row['seed']:>4}  {'-' if mean is None else f'{mean:.2f}':>5}  {row['kept']:>5}"
        )
    return "\n".join(lines)
