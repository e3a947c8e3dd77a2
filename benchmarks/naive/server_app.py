"""Pictures out as uint8 arrays, masks back as uint8 arrays; all messages are queued at once."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()
PER_MESSAGE = 256


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run config: `pictures` (.npy), `teacher` (a checkpoint), `sites` (how many), `out` (where the seconds go)."""
    config = {key: context.run_config[key] for key in ("pictures", "teacher", "sites", "out")}
    pictures = np.load(str(config["pictures"]))
    while len(nodes := list(grid.get_node_ids())) < int(str(config["sites"])):
        time.sleep(0.2)
    began = time.monotonic()
    records = [
        ArrayRecord({"x": Array(pictures[start : start + PER_MESSAGE])})
        for start in range(0, len(pictures), PER_MESSAGE)
    ]
    asked = ConfigRecord({"teacher": str(config["teacher"])})
    messages = [
        Message(RecordDict({"pictures": record, "config": asked}), node, "query.masks")
        for record in records
        for node in nodes
    ]
    waiting = set(grid.push_messages(messages))
    count = 0
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            waiting.discard(reply.metadata.reply_to_message_id)
            count += len(reply.content.array_records["masks"]["y"].numpy())
        time.sleep(0.1)
    told = {"seconds": time.monotonic() - began, "masks": count}
    Path(str(config["out"])).write_text(json.dumps(told))
