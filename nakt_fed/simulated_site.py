"""The teacher services of a simulation's sites, whose folders lie in the run's."""

from functools import lru_cache
from pathlib import Path

from nakt_fed.events import EventLog
from nakt_fed.progress import epoch_reporter
from nakt_fed.service import TeacherService
from nakt_fed.site.personal_job import Job, Trainer
from nakt_fed.site.personal_training import train_here
from nakt_fed.site_data import PrivateData
from nakt_fed.study import Study


def _trainer(site: str, events: EventLog) -> Trainer:
    """In this process, and each epoch is told."""

    def train(job: Job, data: PrivateData) -> str:
        report = epoch_reporter(events, f"personalised:{site}", job.order.recipe.epochs)
        return train_here(job, data, report)

    return train


@lru_cache(maxsize=64)
def _service(text: str, site: str, run: Path) -> TeacherService:
    study = Study.model_validate_json(text)
    spec = next(item for item in study.site if item.name == site)
    resources, events = study.resources, EventLog(run / "events.jsonl")
    return TeacherService(
        spec,
        run / "sites" / site,
        image_size=study.study.image_size,
        seed=study.study.seed,
        threads=resources.site_threads,
        events=events,
        trainer=_trainer(site, events),
    )


def open_service(study: Study, site: str, run: Path) -> TeacherService:
    """A simulated site's service, one per process, so that its teacher is loaded once."""
    return _service(study.model_dump_json(), site, run)
