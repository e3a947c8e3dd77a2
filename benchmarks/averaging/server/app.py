"""Flower's FedAvg strategy over the student's network; the averaged weights and the bytes that moved go to the run folder."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.errors import NaktError, RunError
from nakt_fed.events import EventLog
from nakt_fed.recipe import Recipe
from nakt_fed.seeds import draw
from nakt_fed.study import Study
from nakt_fed.study.file import load_study
from nakt_fed.teacher import fresh_network

TIMEOUT = 6 * 3600.0  # seconds for one round of all sites
app = ServerApp()


class Counted(FedAvg):
    """Flower's FedAvg; beside it the bytes of all weights sent and received, and a word per round. The learning rate of
    a round follows the study's schedule over all rounds."""

    def __init__(self, sites: int, recipe: Recipe, rounds: int, events: EventLog) -> None:
        super().__init__(fraction_evaluate=0.0, min_train_nodes=sites, min_available_nodes=sites)
        self.recipe, self.rounds, self.events = recipe, rounds, events
        self.sites, self.sent, self.received = sites, 0, 0

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        config["learning-rate"] = rate(self.recipe, server_round, self.rounds)
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self.sent += sum(weight_bytes(message) for message in messages)
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        replies = list(replies)
        failed = [message.error.reason for message in replies if message.has_error()]
        if failed or len(replies) < self.sites:
            raise RunError(f"round {server_round}: {len(replies)} of {self.sites} sites answered; {failed[:1]}")
        self.received += sum(weight_bytes(message) for message in replies)
        arrays, metrics = super().aggregate_train(server_round, replies)
        loss = metrics["loss"] if metrics else math.nan
        self.events.emit("note", message=f"round {server_round} of {self.rounds}: loss {loss:.4f}")
        return arrays, metrics


def rate(recipe: Recipe, number: int, rounds: int) -> float:
    """The learning rate of round `number`, from 1 on."""
    if recipe.schedule == "constant":
        return recipe.learning_rate
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (number - 1) / rounds))


def weight_bytes(message: Message) -> int:
    return sum(len(array.data) for array in message.content.array_records["arrays"].values())


@app.main()
def main(grid: Grid, context: Context) -> None:
    config = context.run_config
    run, rounds = Path(str(config["run-dir"])), int(str(config["rounds"]))
    events = EventLog(run / "events.jsonl")
    try:
        average(grid, load_study(Path(str(config["study"]))), run, rounds, int(str(config["epochs"])), events)
    except NaktError as error:
        events.emit("error", message=str(error))
        raise


def average(grid: Grid, study: Study, run: Path, rounds: int, epochs: int, events: EventLog) -> None:
    """Leaves fedavg.safetensors and moved.json in the run folder. It starts from the weights from which the student starts."""
    model = fresh_network(study.student.spec(), draw(study.study.seed, "student"))
    strategy = Counted(len(study.site), study.student.recipe(), rounds, events)
    told = ConfigRecord({"study": str(run / "study.toml"), "epochs": epochs})
    result = strategy.start(grid, ArrayRecord(model.state_dict()), rounds, TIMEOUT, told)
    model.load_state_dict(result.arrays.to_torch_state_dict())
    save_checkpoint(run / "fedavg.safetensors", model, study.student.spec(), image_size=study.study.image_size)
    (run / "moved.json").write_text(json.dumps({"sent": strategy.sent, "received": strategy.received}))
