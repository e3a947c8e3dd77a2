"""The teacher is loaded for every message, by the process that Flower starts for it."""

from pathlib import Path

import torch
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.predict import soft_masks
from nakt_fed.recipe import NetworkSpec

TEACHER = NetworkSpec(network="benchmarks.teacher:smooth")
app = ClientApp()


@app.query("masks")
def masks(message: Message, context: Context) -> Message:
    torch.set_num_threads(1)
    records = message.content
    teacher, _ = load_checkpoint(Path(str(records.config_records["config"]["teacher"])), expect=TEACHER)
    answer = soft_masks(teacher, records.array_records["pictures"]["x"].numpy())
    return Message(RecordDict({"masks": ArrayRecord({"y": Array(answer)})}), reply_to=message)
