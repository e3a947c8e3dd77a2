"""A site's teacher: loaded from a checkpoint, or trained on the site's private pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue
from torch import nn

from nakt_fed.checkpoint import is_saved, load_checkpoint, save_checkpoint
from nakt_fed.errors import CheckpointError, DataError
from nakt_fed.events import EventLog
from nakt_fed.networks import build_network
from nakt_fed.progress import epoch_reporter
from nakt_fed.recipe import NetworkSpec
from nakt_fed.seeds import draw
from nakt_fed.site_data import PrivateData, write_split
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.train import fit


class TeacherCard(BaseModel):
    """What a site says of its teacher: no picture, no name, no path. Checked where it arrives."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    network: str
    parameters: int = Field(ge=0)
    n_images: int = Field(ge=0)
    validation_dice: float | None = Field(ge=0, le=1)
    binary: bool
    classes: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """As it leaves the site: without classes where they have no names."""
        return self.model_dump(exclude=None if self.classes else {"classes"})


def fresh_network(spec: NetworkSpec, seed: int) -> nn.Module:
    """A randomly initialised network, the same for the same seed."""
    torch.manual_seed(draw(seed, "weights"))
    return build_network(spec)


def trained_teacher(
    site: SiteSpec,
    data: Callable[[], PrivateData],
    folder: Path,
    *,
    image_size: int,
    seed: int,
    events: EventLog | None,
) -> tuple[nn.Module, TeacherCard]:
    """The site's network, ready to answer, and its card. What was trained before is loaded from `folder`.

    Raises:
        CheckpointError: the checkpoint cannot be used.
        DataError: the private pictures cannot be used.
    """
    path = site.teacher.checkpoint or folder / "teacher.safetensors"
    if site.teacher.checkpoint is None and not is_saved(path):
        train_teacher(site, data(), folder, image_size=image_size, seed=seed, events=events)
    model, info = load_checkpoint(path, expect=site.teacher.spec())
    trained = info["provenance"].get("classes", [])
    if len(trained) > 1 and trained != list(site.classes):
        raise CheckpointError(
            f"checkpoint {path} was trained on the classes {trained}, its site says {list(site.classes)}; write the same"
        )
    return model, _card(model, site, info["provenance"])


def _card(model: nn.Module, site: SiteSpec, provenance: dict[str, Any]) -> TeacherCard:
    size = sum(parameter.numel() for parameter in model.parameters())
    count, score = provenance.get("n_images", 0), provenance.get("validation_dice")
    return TeacherCard(
        network=site.teacher.network,
        parameters=size,
        n_images=count,
        validation_dice=score,
        binary=site.teacher.binary,
        classes=site.classes,
    )


def classes_of(classes: Sequence[str]) -> dict[str, JsonValue]:
    """What a checkpoint says of its outputs, where there are several."""
    return {"classes": list(classes)} if classes else {}


def train_teacher(
    site: SiteSpec, data: PrivateData, folder: Path, *, image_size: int, seed: int, events: EventLog | None = None
) -> Path:
    """Train on the private pictures; leaves teacher.safetensors, teacher.json, history.csv and split.json in `folder`.

    Raises:
        DataError: fewer than two annotated pictures.
        RunError: the loss is not finite.
    """
    if data.train.masks is None:
        raise DataError(
            f"site {site.name!r} has no masks to train its teacher with; give site.masks or teacher.checkpoint"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_split(data, folder / "split.json")
    own_seed = draw(seed, "teacher", site.name)
    model = fresh_network(site.teacher.spec(), own_seed)
    report = epoch_reporter(events, f"teacher:{site.name}", site.teacher.epochs)
    history = fit(
        model,
        data.train,
        site.teacher.recipe(),
        folder=folder,
        seed=own_seed,
        validation=data.validation,
        on_epoch=report,
    )
    scores = [log.validation_dice for log in history if log.validation_dice is not None]
    score = (max(scores) if site.teacher.keep == "best" else scores[-1]) if scores else None
    path = folder / "teacher.safetensors"
    save_checkpoint(
        path,
        model.cpu(),
        site.teacher.spec(),
        trained_on=site.name,
        n_images=len(data.train),
        image_size=image_size,
        validation_dice=score,
        epochs=len(history),
        **classes_of(site.classes if len(site.classes) > 1 else ()),
    )
    return path
