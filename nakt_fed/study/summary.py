"""What a look at a study found: how many pictures there are, what will cross the network, what the pictures themselves told."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nakt_fed.data.pictures import content_hash

BLACK, WHITE = 16, 240
"""Levels up to and from which a pixel may be a mask's, resized and coded as JPEG."""


@dataclass
class Seen:
    """The content hashes of every set of pictures, by what people call it; and which sets look like masks."""

    hashes: dict[str, set[str]] = field(default_factory=dict)
    like_masks: list[str] = field(default_factory=list)

    def add(self, name: str, images: Any) -> None:
        """`images`: (N, H, W) uint8."""
        self.hashes[name] = {content_hash(image) for image in images}
        if look_like_masks(images):
            self.like_masks.append(name)


@dataclass(frozen=True)
class SiteSummary:
    """Pictures of one site, by part."""

    name: str
    network: str
    train: int
    validation: int
    test: int
    checkpoint: bool


@dataclass(frozen=True)
class StudySummary:
    """What a run of the study would work on. Bytes are per site, in coded form; `bytes_back` is an estimate.

    `faults` holds the sites that will be set aside because of their network, which `round.min_sites` allows; `seen`
    is what the pictures themselves told.
    """

    sites: list[SiteSummary]
    originals: int
    views: int
    bytes_out: int
    bytes_back: int
    tests: dict[str, int]
    fine_tune: int
    faults: dict[str, str]
    seen: Seen = field(default_factory=Seen)

    @property
    def pictures(self) -> int:
        return self.originals + self.views


def look_like_masks(images: Any) -> bool:
    """Whether nearly all pixels are black or white, and some are white. `images`: (N, H, W) uint8."""
    stack = np.asarray(images)
    white = np.mean(stack >= WHITE) if stack.size else 0.0
    return bool(white > 0.01 and white + np.mean(stack < BLACK) > 0.9)
