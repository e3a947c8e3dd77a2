"""What is still to be asked of one site about one picture set, and what of it may be asked now."""

from collections import Counter, deque
from collections.abc import Iterable

from nakt_fed.exchange import Kind
from nakt_fed.transferal import SharedSet

Step = tuple[Kind, int | None]
"""Kind of the request, and the chunk that it is about."""
OFFER: Step = ("offer", None)


class Plan:
    """First the offer, then the originals that the site lacks, and masks as soon as the site has the pictures they need:
    pictures on the way out and masks on the way back share the time.

    A view is blended from any two originals, so a chunk with views in it waits for all originals.
    """

    def __init__(self, shared: SharedSet, masks: Iterable[int]) -> None:
        self.shared, self.masks = shared, deque(masks)
        self.pictures: deque[int] = deque()
        self.lacking: set[int] = set()
        self.tries: Counter[Step] = Counter()
        self.flying: set[Step] = set()
        self._offered = self._masks_next = False

    @property
    def done(self) -> bool:
        """Nothing is left to ask, and nothing is on its way that could have to be asked again."""
        return self._offered and not (self.masks or self.pictures or self.flying)

    def take(self) -> Step | None:
        """What to ask next; None: nothing until an answer has come."""
        step = self._next()
        if step:
            self.flying.add(step)
        return step

    def accepted(self, lacking: Iterable[int]) -> None:
        """The site lacks these chunks of originals. Where no masks are wanted, it is sent none."""
        self.lacking = set(lacking)
        self.pictures = deque(sorted(self.lacking) if self.masks else [])

    def answered(self, step: Step) -> None:
        """The answer could be used."""
        self.flying.discard(step)
        if step[0] == "pictures":
            self.lacking -= {step[1]}

    def failed(self, step: Step) -> int:
        """The answer could not be used: ask again, after all else. Returns how often that has happened."""
        kind, chunk = step
        self.flying.discard(step)
        if chunk is not None:
            (self.pictures if kind == "pictures" else self.masks).append(chunk)
        self.tries[step] += 1
        return self.tries[step]

    def _next(self) -> Step | None:
        if not self._offered:
            self._offered = True
            return OFFER
        ready = next((chunk for chunk in self.masks if self._ready(chunk)), None)
        if ready is not None and (self._masks_next or not self.pictures):
            self._masks_next = False
            self.masks.remove(ready)
            return "masks", ready
        self._masks_next = True
        return ("pictures", self.pictures.popleft()) if self.pictures else None

    def _ready(self, chunk: int) -> bool:
        """Whether the site has what it needs to answer the masks of a chunk."""
        if OFFER in self.flying:
            return False
        stop = min((chunk + 1) * self.shared.chunk, len(self.shared.manifest))
        return chunk not in self.lacking if stop <= self.shared.manifest.originals else not self.lacking
