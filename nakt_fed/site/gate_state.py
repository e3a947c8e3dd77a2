"""What the gate remembers over a restart: small JSON files, written whole."""

import json
from pathlib import Path
from threading import Lock
from typing import Any

from nakt_fed.errors import RunError
from nakt_fed.whole_file import write_json


class StateFile:
    """A JSON object in a file; empty before the first write. Another process may read it at any time."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def read(self) -> dict[str, Any]:
        """Raises RunError: the file is damaged; nothing is answered on a guess."""
        try:
            value = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise RunError(f"{self.path} is damaged ({error}); restore it from a backup, or remove it") from None
        if not isinstance(value, dict):
            raise RunError(f"{self.path} is damaged: no JSON object; restore it from a backup, or remove it")
        return value

    def entries(self, *keys: str) -> dict[str, dict[str, Any]]:
        """The object, each value of which is a table with at least these keys. Raises RunError: another one, or as `read`."""
        for name, entry in (found := self.read()).items():
            if not (isinstance(entry, dict) and set(keys) <= set(entry)):
                raise RunError(
                    f"{self.path} is damaged: {name!r} is no table with {', '.join(keys)}; restore it from a backup, or remove it"
                )
        return found

    def write(self, value: dict[str, Any]) -> None:
        """Replace the content, also through a power cut."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, value)


class Offers:
    """Accepted manifests by hash: {"pictures", "originals", "sets": {set: {"chunk"}}, "answered": [[start, stop]]}."""

    def __init__(self, folder: Path) -> None:
        self.file = StateFile(folder / "offers.json")
        self._lock = Lock()

    def accept(self, manifest: str, picture_set: str, chunk: int, pictures: int, originals: int) -> None:
        """Remember an offer; what was answered of the same manifest before stays answered."""
        with self._lock:
            offers = self.file.read()
            entry = offers.setdefault(manifest, {"sets": {}, "answered": []})
            entry |= {"pictures": pictures, "originals": originals}
            entry["sets"][picture_set] = {"chunk": chunk}
            self.file.write(offers)

    def find(self, manifest: Any, picture_set: Any) -> dict[str, Any] | None:
        """{"pictures", "originals", "chunk"} of an accepted offer."""
        if not (isinstance(manifest, str) and isinstance(picture_set, str)):
            return None
        entry = self.file.read().get(manifest)
        if entry is None or picture_set not in entry["sets"]:
            return None
        return {"pictures": entry["pictures"], "originals": entry["originals"], **entry["sets"][picture_set]}

    def unanswered(self, manifest: str, start: int, stop: int) -> int:
        """How many pictures from `start` to before `stop` were never answered."""
        answered = self.file.read()[manifest]["answered"]
        return stop - start - sum(max(0, min(stop, b) - max(start, a)) for a, b in answered)

    def answered(self, manifest: str, start: int, stop: int) -> None:
        """Remember that these were."""
        with self._lock:
            offers = self.file.read()
            offers[manifest]["answered"] = _merged([*offers[manifest]["answered"], [start, stop]])
            self.file.write(offers)


def _merged(ranges: list[list[int]]) -> list[list[int]]:
    """The same pictures in as few ranges as possible: disjoint, in order."""
    merged: list[list[int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    return merged
