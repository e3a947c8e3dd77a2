"""Every node says where it runs and which code it has."""

import os
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import nakt_fed

app = ClientApp()
NAMES = ("OMP_NUM_THREADS", "RAY_ADDRESS", "NAKT_RAY_ADDRESS", "FLWR_HOME")


@app.query("where")
def where(message: Message, context: Context) -> Message:
    facts = {"app": __file__, "nakt_fed": os.path.realpath(nakt_fed.__file__), "cwd": str(Path.cwd())}
    facts |= {name: os.environ.get(name, "") for name in NAMES}
    facts["node"] = str(context.node_config["partition-id"])
    return Message(RecordDict({"facts": ConfigRecord(facts)}), reply_to=message)
