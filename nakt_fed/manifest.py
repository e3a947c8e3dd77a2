"""The manifest of a picture set: what is asked of the sites, picture by picture, before a picture is sent (DESIGN §6)."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from nakt_fed.data.pictures import PREPROCESSING
from nakt_fed.errors import DataError
from nakt_fed.views import ViewScheme

VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """Ids and hashes of all members, originals first, then views; `ids` and `hashes` have the same length."""

    ids: tuple[str, ...]
    hashes: tuple[str, ...]
    image_size: int
    views: ViewScheme | None = None
    preprocessing: str = PREPROCESSING

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def originals(self) -> int:
        """How many pictures are sent; the rest are views, which a site derives itself."""
        return len(self.ids) // (1 + (self.views.per_picture if self.views else 0))

    @cached_property
    def sha256(self) -> str:
        """The hash of the whole; every answer names it."""
        return hashlib.sha256(json.dumps(self._body(), sort_keys=True).encode()).hexdigest()

    def _body(self) -> dict[str, Any]:
        size = [self.image_size, self.image_size]
        return {
            "version": VERSION,
            "preprocessing": self.preprocessing,
            "image_size": self.image_size,
            "views": self.views.to_dict() if self.views else None,
            "pictures": [{"id": i, "sha256": h, "size": size} for i, h in zip(self.ids, self.hashes, strict=True)],
        }

    def to_json(self) -> str:
        """The file manifest.json, and what is offered to the sites."""
        return json.dumps({**self._body(), "sha256": self.sha256}, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Manifest":
        """Read and check.

        Raises:
            DataError: not a manifest of this version, other preprocessing, or its hash does not fit its content.
        """
        try:
            raw = json.loads(text)
            rows = raw["pictures"]
            views = ViewScheme.from_dict(raw["views"]) if raw["views"] else None
            manifest = cls(
                tuple(r["id"] for r in rows),
                tuple(r["sha256"] for r in rows),
                int(raw["image_size"]),
                views,
                raw["preprocessing"],
            )
            whole, version = raw.pop("sha256"), raw["version"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"this is no manifest ({type(error).__name__}: {error}); send the file manifest.json of a run"
            ) from None
        manifest._check(version, whole, raw)
        return manifest

    def _check(self, version: Any, whole: Any, body: dict[str, Any]) -> None:
        if version != VERSION or self.preprocessing != PREPROCESSING:
            raise DataError(
                f"manifest of version {version} with preprocessing {self.preprocessing!r}; this side knows version {VERSION} with {PREPROCESSING!r}: "
                "run the same nakt-fed on both sides"
            )
        if whole != self.sha256 or body != self._body():
            raise DataError(
                f"the manifest's hash {str(whole)[:12]}… does not fit its content ({self.sha256[:12]}…); it was changed on the way, send it again"
            )
        if len(self) != self.originals * (1 + (self.views.per_picture if self.views else 0)):
            raise DataError(f"the manifest lists {len(self)} pictures, which does not fit its views; send it again")
