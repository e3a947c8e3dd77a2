"""What goes into a site's next message."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from nakt_fed.exchange import Request

MESSAGE_BYTES = 24e6  # of requests in one message, unless one alone is larger
END = Request("hello")  # behind a site's last question


@dataclass
class Line:
    """One site's questions: first what has to be asked again, then what comes next. `in_flight` counts messages."""

    questions: Iterator[Request | None]
    again: deque[Request] = field(default_factory=deque)
    in_flight: int = 0
    ended: bool = False

    def take(self) -> Request | None:
        """None: nothing just now, or nothing more."""
        if self.again:
            return self.again.popleft()
        request = None if self.ended else next(self.questions, END)
        self.ended = self.ended or request is END
        return None if self.ended else request

    def waits(self) -> bool:
        """Whether there is a question to send now."""
        if not self.again and (request := self.take()):
            self.again.append(request)
        return bool(self.again)

    def pack(self, share: int) -> list[Request]:
        """The requests of the next message: at most `share`, of MESSAGE_BYTES, and behind them those that they bring along. What a
        site does not get to is asked again, and pictures should not travel twice, so masks come last."""
        packed: list[Request] = []
        while len(packed) < share and (request := self.take()) is not None:
            size = len(request.blob) + sum(len(other.blob) for other in packed)
            if packed and size > MESSAGE_BYTES:
                self.again.appendleft(request)
                break
            packed.append(request)
        return sorted([*packed, *(each.then for each in packed if each.then)], key=lambda each: not each.blob)

    def back(self, requests: list[Request]) -> None:
        """Ask these before anything else."""
        self.again.extendleft(reversed(requests))

    @property
    def done(self) -> bool:
        return self.ended and not self.again and not self.in_flight
