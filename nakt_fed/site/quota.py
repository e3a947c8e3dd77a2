"""How much a site still answers today (UTC): picture sets, pictures, students to judge and to fine-tune. A restart forgets nothing."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import Lock
from typing import Any

from nakt_fed.site.gate_state import Offers, StateFile
from nakt_fed.site.orders import Refusal
from nakt_fed.site.policy import Policy


class Quota:
    """Counts in day.json: {"day", "pictures", "students": {sha256: the answer, or null until there is one},
    "trainings": [what was begun], "sets": [manifests that were offered]}."""

    def __init__(self, folder: Path, policy: Policy, today: Callable[[], date]) -> None:
        self.file, self.policy, self.today = StateFile(folder / "day.json"), policy, today
        self._lock, self._flying = Lock(), 0

    def offer(self, manifest: str) -> None:
        """Count a set that is offered, whatever becomes of it: it says how many of its pictures are the site's own, and is kept.
        The same one again is free.

        Raises:
            Refusal: quota.
        """
        with self._lock:
            self._begin("sets", manifest, self.policy.sets_per_day, "takes {} picture sets a day")

    @contextmanager
    def masks(self, offers: Offers, manifest: str, start: int, stop: int) -> Iterator[Callable[[], None]]:
        """Hold the room that an answer needs, so that answers at the same time do not exceed the day's number.

        Pictures of the manifest that were answered before need none. Gives the function that counts the answer.

        Raises:
            Refusal: quota.
        """
        with self._lock:
            new = offers.unanswered(manifest, start, stop)
            most = self.policy.pictures_per_day
            if new > max(0, most - self._day()["pictures"] - self._flying):
                raise Refusal("quota", f"this site answers {most} pictures a day; go on after midnight UTC")
            self._flying += new
        try:
            yield lambda: self._count(offers, manifest, start, stop)
        finally:
            with self._lock:
                self._flying -= new

    def _count(self, offers: Offers, manifest: str, start: int, stop: int) -> None:
        """Counted before it is remembered as answered: a kill in between counts twice, never too little."""
        with self._lock:
            day = self._day()
            self.file.write({**day, "pictures": day["pictures"] + offers.unanswered(manifest, start, stop)})
            offers.answered(manifest, start, stop)

    def student(self, student: str) -> dict[str, Any] | None:
        """What was answered of the same student today. Else it is counted, before it is evaluated.

        Raises:
            Refusal: quota.
        """
        with self._lock:
            students, most = self._day()["students"], self.policy.evaluations_per_day
            if student not in students:
                if len(students) >= most:
                    raise Refusal("quota", f"this site evaluates {most} students a day; go on after midnight UTC")
                self._keep(student, None)
            answer: dict[str, Any] | None = students.get(student)
            return answer

    def training(self, key: str) -> None:
        """Count a student to fine-tune; the same one again, with the same recipe, on the same day is free.

        Raises:
            Refusal: quota.
        """
        with self._lock:
            self._begin("trainings", key, self.policy.personalisations_per_day, "fine-tunes {} students a day")

    def _begin(self, kind: str, key: str, most: int, rule: str) -> None:
        day = self._day()
        begun = day.get(kind, [])
        if key not in begun and len(begun) >= most:
            raise Refusal("quota", f"this site {rule.format(most)}; go on after midnight UTC")
        self.file.write({**day, kind: sorted({*begun, key})})

    def answered(self, student: str, answer: dict[str, Any]) -> None:
        """Keep what was answered of a student."""
        with self._lock:
            self._keep(student, answer)

    def _keep(self, student: str, answer: dict[str, Any] | None) -> None:
        day = self._day()
        self.file.write({**day, "students": {**day["students"], student: answer}})

    def _day(self) -> dict[str, Any]:
        """Today's counts; while the clock is behind the last day, that day's: a clock that was set back begins none anew."""
        kept, today = self.file.read(), self.today().isoformat()
        return kept if kept.get("day", "") >= today else {"day": today, "pictures": 0, "students": {}}
