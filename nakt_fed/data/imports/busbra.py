"""BUS-BRA: bus_data.csv (ID, Case, Pathology, Device), Images/bus_0001-l.png, Masks/mask_0001-l.png."""

from collections.abc import Iterator
from pathlib import Path

from nakt_fed.data.imports.source import (
    Item,
    Kind,
    Listing,
    Options,
    Picture,
    broken,
    mask_files,
    plain,
    read_table,
    single,
)
from nakt_fed.errors import DataError

TABLE, PICTURES, MASKS = "bus_data.csv", "Images", "Masks"


def fits(folder: Path) -> bool:
    """Whether the table and the pictures are there."""
    return (folder / TABLE).is_file() and (folder / PICTURES).is_dir()


def find(root: Path, options: Options) -> Listing:
    """Every row of the table, by patient; histology and BI-RADS are not taken over."""
    return Listing(list(_items(root)), annotated=True)


def _items(root: Path) -> Iterator[Item]:
    for row in read_table(root / TABLE, "ID", "Case", "Pathology", "Device"):
        if row["ID"] != plain(row["ID"]):  # it becomes part of a path
            yield broken(
                plain(row["ID"]), TABLE, DataError(f"{row['ID']!r} is no ID of BUS-BRA; download {TABLE} again")
            )
            continue
        picture = root / PICTURES / f"{row['ID']}.png"
        mask = root / MASKS / f"{row['ID'].replace('bus_', 'mask_', 1)}.png"
        yield single(
            Picture(
                row["ID"],
                f"{PICTURES}/{picture.name}",
                picture,
                mask_files([mask] if mask.is_file() else [], picture),
                group=f"case {row['Case']}",
                label=row["Pathology"] or None,
                scanner=row["Device"] or None,
            )
        )


KIND = Kind(
    "busbra",
    "BUS-BRA: breast ultrasound, National Institute of Cancer, Rio de Janeiro",
    f"{TABLE} beside {PICTURES}/ (`bus_0001-l.png`) and {MASKS}/ (`mask_0001-l.png`)",
    fits,
    find,
    "its own permissive licence, whose text (LICENSE.txt of the archive) must go with every copy; the article must be cited",
    'W. Gomez-Flores, M. J. Gregorio-Calas, W. Coelho de Albuquerque Pereira, "BUS-BRA: A Breast Ultrasound Dataset for '
    'Assessing Computer-aided Diagnosis Systems", Medical Physics 51(4), 3110-3123, 2024, doi 10.1002/mp.16812',
    grouped_by="patient",
)
