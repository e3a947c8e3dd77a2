"""A federation of real processes on loopback with slow teachers, and nothing that is left of it afterwards."""

import os
import shutil
import signal
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from nakt_fed.study import Study
from simulation.loopback import Loopback
from tests.deployment.hospitals import settle
from tests.deployment.running import Running, Started
from tests.deployment.studies import NO_NAMES, Asked, local_study, write_study
from tests.watch import family, survivors

HERE = Path(__file__).parent


@dataclass
class Federation(Loopback):
    """`pause`: seconds that a teacher takes per batch. Sites approve automatically unless `policy` says otherwise. `classes`: of
    sites whose teachers' outputs have names."""

    pause: float = 0.2
    policy: dict[str, dict[str, Any]] = field(default_factory=dict)
    classes: dict[str, list[str]] = field(default_factory=dict)
    kind: Any = Started
    known: dict[int, int] = field(default_factory=dict)

    def __enter__(self) -> Self:
        (self.root / "lib").mkdir(parents=True)
        shutil.copy(HERE / "slow_teacher.py", self.root / "lib")
        return super().__enter__()

    def __exit__(self, *_: object) -> None:
        self.look()
        for each in self.started:
            if isinstance(each, Started) and each.process.poll() is None:
                each.signal_all(signal.SIGCONT)
        super().__exit__()
        left = survivors(self.known, patience=20)
        assert not left, left

    def settle(self, number: int, name: str, raw: dict[str, Any]) -> None:
        settle(self.root / name, number, raw, self.classes.get(name, []))
        raw["policy"] |= self.policy.get(name, {})

    def look(self) -> None:
        """Remember who was started, to find who is left."""
        for each in self.started:
            if each.process.poll() is None:
                self.known |= family(each.process.pid)

    def env(self, name: str) -> dict[str, str]:
        return {
            **super().env(name),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(self.root / "lib"), os.environ.get("PYTHONPATH")])),
            "NAKT_TEST_MARK": str(self.mark(name)),
            "NAKT_TEST_PAUSE": str(self.pause),
        }

    def mark(self, name: str) -> Path:
        """Touched when the site's teacher begins."""
        return self.root / f"{name}.begins"

    def start(self, kind: Any, name: str, *arguments: object) -> Any:
        self.look()
        return super().start(kind, name, *arguments)

    def write_study(self, name: str, pictures: int, seed: int = 0, asked: Asked = NO_NAMES, **tables: Any) -> Path:
        """`asked`: the sites that take part and their classes; otherwise all do, whatever their one class is called."""
        return write_study(self.root, tuple(asked) or self.names, name, pictures, seed, asked, **tables)

    def local_study(self, name: str, asked: Asked = NO_NAMES, **tables: Any) -> Study:
        return local_study(self.root, tuple(asked) or self.names, name, asked, **tables)

    def run(self, study: Path, *more: object) -> Running:
        words = ("run", study, "--federation", self.kit, "--runs", self.root / "runs", *more)
        return self._running(*words)

    def resume(self, run: Path) -> Running:
        return self._running("run", "--resume", run, "--federation", self.kit)

    def _running(self, *words: object) -> Running:
        number = sum(isinstance(each, Running) for each in self.started)
        running: Running = self.start(Running, f"run-{number}", *words)
        return running
