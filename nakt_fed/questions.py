"""The requests about a picture set, as a site is asked them."""

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from nakt_fed.answers import originals_of
from nakt_fed.codec import encode
from nakt_fed.exchange import Request
from nakt_fed.plan import Step
from nakt_fed.shared_set import SharedSet

MOST_CODED = 64_000_000  # bytes of coded pictures that are kept for the next site


class Questions:
    """Makes requests. Every site is sent the same coded pictures; those coded last are kept, so that sites which go at one
    pace cost one coding.

    Args:
        near: how lossy the masks of the transferal set may be; those of a test set are exact.
    """

    def __init__(self, near: int) -> None:
        self.near = near
        self._coded: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def request(self, shared: SharedSet, steps: Sequence[Step]) -> Request:
        """The request of a step of the plan, with those behind it."""
        (kind, chunk), then = steps[0], self.request(shared, steps[1:]) if len(steps) > 1 else None
        if chunk is None:
            about = {"set": shared.name, "chunk": shared.chunk}
            asked = {"manifest": shared.manifest.sha256, "pictures": len(shared.manifest)}
            return Request("offer", {**about, **asked}, shared.manifest.to_json().encode())
        about = {"set": shared.name, "manifest": shared.manifest.sha256, "chunk": chunk}
        if kind == "pictures":
            return Request("pictures", about, self._pictures(shared, chunk), then)
        start, near = chunk * shared.chunk, self.near if shared.name == "transferal" else 0
        stop = min(start + shared.chunk, len(shared.manifest))
        return Request("masks", {**about, "range": [start, stop], "near": near})

    def _pictures(self, shared: SharedSet, chunk: int) -> bytes:
        key = (shared.manifest.sha256, chunk)
        if key not in self._coded:
            rows = originals_of(shared, chunk)
            self._coded[key] = encode(np.asarray(shared.images[rows.start : rows.stop]))
        self._coded.move_to_end(key)
        while len(self._coded) > 1 and sum(map(len, self._coded.values())) > MOST_CODED:
            self._coded.popitem(last=False)
        return self._coded[key]
