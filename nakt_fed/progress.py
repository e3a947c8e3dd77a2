"""Progress as events: whoever trains or asks appends lines, whoever shows them follows the file."""

import time
from collections import Counter
from collections.abc import Callable

from nakt_fed.events import EventLog
from nakt_fed.training_state import EpochLog


def epoch_reporter(events: EventLog | None, who: str, epochs: int) -> Callable[[EpochLog], None]:
    """An `on_epoch` for `train.fit` that says how far `who` is and how long it will take."""
    seconds: list[float] = []

    def report(log: EpochLog) -> None:
        seconds.append(log.seconds)
        left = sum(seconds) / len(seconds) * (epochs - log.epoch)
        if events:
            events.emit(
                "epoch",
                who=who,
                epoch=log.epoch,
                epochs=epochs,
                loss=log.loss,
                validation_dice=log.validation_dice,
                seconds_left=round(left, 1),
            )

    return report


class SiteMeter:
    """One event per answered chunk: how far each site is, pictures/s and bytes."""

    def __init__(self, events: EventLog, picture_set: str, kind: str) -> None:
        self.events, self.fields = events, {"set": picture_set, "request": kind}
        self.total: Counter[str] = Counter()  # chunks that each site is asked for
        self.chunks: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.began = time.perf_counter()

    def add(self, site: str, pictures: int, size: int) -> None:
        """One more chunk of `site` is done."""
        self.chunks[site] += 1
        self.pictures[site] += pictures
        self.bytes[site] += size
        rate = self.pictures[site] / max(time.perf_counter() - self.began, 1e-9)
        self.events.emit(
            "site",
            site=site,
            **self.fields,
            chunks=self.chunks[site],
            of=self.total[site],
            pictures_per_second=round(rate, 1),
            bytes=self.bytes[site],
        )
