"""ledger.jsonl: one line per exchange of pictures or masks with a site (DESIGN §6)."""

import hashlib
import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nakt_fed.exchange import Exchange


@dataclass(frozen=True)
class Ledger:
    """Appends; a run that is resumed goes on in the same file."""

    path: Path

    def write(
        self, done: Exchange, picture_set: str, chunk: int | None, pictures: int, outcome: str, reason: str = ""
    ) -> dict[str, Any]:
        """Record one exchange. `outcome`: ok, rejected (the answer cannot be used) or failed (no answer)."""
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "site": done.site,
            "kind": done.request.kind,
            "set": picture_set,
            "chunk": chunk,
            "pictures": pictures,
            "bytes_out": len(done.request.blob),
            "bytes_back": len(done.reply.blob),
            "seconds": round(done.seconds, 4),
            "sha256": hashlib.sha256(done.reply.blob).hexdigest(),
            "outcome": outcome,
        }
        with self.path.open("ab+") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
            mend = b"\n" if file.read(1) not in (b"", b"\n") else b""  # a kill or a full disk has cut the last line
            file.write(mend + json.dumps(line | ({"reason": reason} if reason else {})).encode() + b"\n")
        return line

    def lines(self) -> list[dict[str, Any]]:
        """All whole lines; a line that was cut is passed over."""
        if not self.path.exists():
            return []
        return [json.loads(line) for line in self.path.read_bytes().splitlines() if line.endswith(b"}")]
