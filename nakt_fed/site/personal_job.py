"""All that a fine-tuning at a site needs to know, and where its student lies."""

import hashlib
from datetime import date
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import BaseModel, ConfigDict

from nakt_fed.site.personal_list import FOLDER
from nakt_fed.site.personal_order import PersonalOrder
from nakt_fed.site_data import PrivateData
from nakt_fed.study.pictures import SiteSpec


class Job(BaseModel):
    """A fine-tuning; JSON. `folder` is the personalised student's own, at the site; after the day `expires` it ends."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    folder: Path
    order: PersonalOrder
    site: SiteSpec
    image_size: int
    seed: int
    threads: int
    expires: date | None = None

    @property
    def received(self) -> Path:
        """The student as the coordinator sent it."""
        return self.folder / "received.bytes"

    @property
    def weights(self) -> Path:
        """The personalised student; its JSON lies beside it."""
        return self.folder / "student.safetensors"

    @property
    def history(self) -> Path:
        """A row per epoch."""
        return self.folder / "history.csv"

    @property
    def log(self) -> Path:
        """What a training process of its own has said."""
        return self.folder / "training.log"

    def is_about(self, data: PrivateData) -> bool:
        """Whether these are the private pictures that it was ordered for."""
        return self.folder == place(self.folder.parent.parent, self.order.key, data)


class Trainer(Protocol):
    """Leaves `job.weights`; or says in words how far it is, and wants to be asked again."""

    def __call__(self, job: Job, data: PrivateData) -> str: ...


def place(folder: Path, key: str, data: PrivateData) -> Path:
    """Where the student of an order is personalised, in the site's own folder. With other private pictures, or other masks of
    them, it is another one."""
    digest = hashlib.sha256()
    for part in (data.train, data.validation, data.test):
        for stack in (part.images, part.masks):
            digest.update(b"|" if stack is None else np.ascontiguousarray(stack).data)
        digest.update("\n".join(part.ids).encode())
    return folder / FOLDER / f"{key}-{digest.hexdigest()[:8]}"
