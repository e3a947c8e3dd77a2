"""`python -m server.superlink ...`: Flower's own SuperLink, with a database whose memory doesn't grow with what passes through.

Flower 1.41 gives each of its database connections (up to ten, when many messages come at once) 64 MB of cache and maps
256 MB of the file into memory: a coordinator's memory would grow with the pictures until all of them are full. Nothing is
read twice here, so the caches serve nobody.
"""

import sys

from flwr.supercore import sql_mixin
from flwr.superlink.cli import flower_superlink

SMALL = {"cache_size": "-2000", "mmap_size": "0"}
"""SQLite's own defaults: 2 MB for each connection, nothing mapped."""


def small_caches() -> None:
    """For all connections from now on. A Flower that sets nothing of the kind is left as it is."""
    known = getattr(sql_mixin, "SQLITE_PRAGMAS", ())
    setattr(sql_mixin, "SQLITE_PRAGMAS", tuple((name, SMALL.get(name, value)) for name, value in known))  # noqa: B010


def main() -> None:
    """Takes the options of `flower-superlink`."""
    small_caches()
    sys.argv[0] = "flower-superlink"
    flower_superlink()


if __name__ == "__main__":
    main()
