"""What is still to be asked of one site about one picture set, and what of it may be asked now."""

from collections import Counter, deque
from collections.abc import Iterable

from nakt_fed.exchange import Kind
from nakt_fed.shared_set import SharedSet

Step = tuple[Kind, int | None]
"""Kind of the request, and the chunk that it is about."""
OFFER: Step = ("offer", None)


class Plan:
    """First the offer, then the originals that the site lacks, each chunk followed by the question for its masks, so that
    pictures on the way out and masks on the way back share the time; then the masks that are left.

    A view is blended from any two originals, so a chunk with views in it waits until the site has taken all of them.
    """

    def __init__(self, shared: SharedSet, masks: Iterable[int]) -> None:
        self.shared, self.masks = shared, deque(masks)
        self.pictures: deque[int] = deque()
        self.lacking: set[int] = set()
        self.tries: Counter[Step] = Counter()
        self.flying: set[Step] = set()
        self._offered = False

    @property
    def done(self) -> bool:
        """Nothing is left to ask, and nothing is on its way that could have to be asked again."""
        return self._offered and not (self.masks or self.pictures or self.flying)

    def take(self) -> list[Step]:
        """What to ask next: a step, and the one to carry behind it, which needs what it brings. Empty: nothing until an answer
        has come."""
        steps = self._next()
        self.flying.update(steps)
        return steps

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
        self._again(step)
        if kind == "pictures":
            self._again(("masks", chunk))  # was behind it, and is not answered
        self.tries[step] += 1
        return self.tries[step]

    def _again(self, step: Step) -> None:
        kind, chunk = step
        if step in self.flying and chunk is not None:
            (self.pictures if kind == "pictures" else self.masks).append(chunk)
        self.flying.discard(step)

    def _next(self) -> list[Step]:
        if not self._offered:
            self._offered = True
            return [OFFER]
        if self.pictures:
            chunk = self.pictures.popleft()
            if chunk not in self.masks or not self._only_originals(chunk):
                return [("pictures", chunk)]
            self.masks.remove(chunk)
            return [("pictures", chunk), ("masks", chunk)]
        ready = next((chunk for chunk in self.masks if self._ready(chunk)), None)
        if ready is None:
            return []
        self.masks.remove(ready)
        return [("masks", ready)]

    def _ready(self, chunk: int) -> bool:
        """Whether the site has said that it has what it needs to answer the masks of a chunk."""
        if OFFER in self.flying:
            return False
        return chunk not in self.lacking if self._only_originals(chunk) else not self.lacking

    def _only_originals(self, chunk: int) -> bool:
        return min((chunk + 1) * self.shared.chunk, len(self.shared.manifest)) <= self.shared.manifest.originals
