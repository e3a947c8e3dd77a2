"""The in-process engine: the slow, plain runner that defines what is right. No Flower, no Ray, one process."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter

from nakt_fed.exchange import Exchange, Request, in_turn
from nakt_fed.run import run_study
from nakt_fed.service import TeacherService
from nakt_fed.simulated_site import open_service
from nakt_fed.student import train_student
from nakt_fed.study import Study


class InProcess:
    """Sites whose services are called directly, one request at a time, site after site."""

    def __init__(self, study: Study, run: Path) -> None:
        self.study, self.run, self.names = study, run, study.site_names

    def arrivals(self) -> Iterator[list[str]]:
        """All are here."""
        yield self.names

    def exchange(self, requests: Mapping[str, Iterator[Request | None]]) -> Iterator[Exchange]:
        """Carry the requests out in the order of the sites."""
        for name, questions in requests.items():
            service = open_service(self.study, name, self.run)
            for request in filter(None, questions):
                yield from in_turn(request, partial(_asked, name, service))


def _asked(name: str, service: TeacherService, request: Request) -> Exchange:
    began = perf_counter()
    reply = service.handle(request)
    return Exchange(name, request, reply, perf_counter() - began)


def run_in_process(study: Study, run: Path) -> None:
    """The whole study in this process; the same run folder as through Flower."""
    run_study(study, run, InProcess(study, run), train_student)
