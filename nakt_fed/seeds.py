"""Seeds for everything that is random, all from the study's one seed."""

import hashlib


def draw(*parts: object) -> int:
    """A seed of its own for each purpose: 32 bits from the parts, the same in every process and on every machine."""
    return int.from_bytes(hashlib.sha256("|".join(map(str, parts)).encode()).digest()[:4], "big")
