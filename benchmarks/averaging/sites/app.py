"""A site of FedAvg: trains the weights that it is sent on its private pictures, by the project's own loop, and sends them back."""

import tempfile
from functools import lru_cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from nakt_fed.networks import build_network
from nakt_fed.recipe import Recipe
from nakt_fed.seeds import draw
from nakt_fed.site_data import PrivateData, private_data
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from nakt_fed.study.pictures import SiteSpec
from nakt_fed.train import fit

app = ClientApp()


@lru_cache(maxsize=64)
def opened(path: Path, number: int) -> tuple[Study, SiteSpec, PrivateData]:
    """The study, its site of this number, and the same split of its pictures as its teacher has."""
    study = load_study(path)
    site = study.site[number]
    return study, site, private_data(site, study.study.image_size, study.study.seed)


def local_recipe(study: Study, site: SiteSpec, epochs: int, rate: float) -> Recipe:
    """The student's, but for what belongs to one training alone: schedule and average of the weights run over the rounds,
    and the pictures are bent as for the site's teacher, because they are not views."""
    own = {"epochs": epochs, "learning_rate": rate, "schedule": "constant", "ema": 0.0}
    return study.student.recipe().model_copy(update={**own, "augment": site.teacher.augment, "keep": "last"})


@app.train()
def train(message: Message, context: Context) -> Message:
    config = message.content.config_records["config"]
    study, site, data = opened(Path(str(config["study"])), int(str(context.node_config["partition-id"])))
    number = int(str(config["server-round"]))
    torch.set_num_threads(study.resources.site_threads)
    model = build_network(study.student.spec())
    model.load_state_dict(message.content.array_records["arrays"].to_torch_state_dict())
    recipe = local_recipe(study, site, int(str(config["epochs"])), float(str(config["learning-rate"])))
    seed = draw(study.study.seed, "fedavg", site.name, number)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(model, data.train, recipe, folder=Path(folder), seed=seed)
    told = MetricRecord({"num-examples": len(data.train), "loss": history[-1].loss})
    return Message(RecordDict({"arrays": ArrayRecord(model.cpu().state_dict()), "metrics": told}), reply_to=message)
