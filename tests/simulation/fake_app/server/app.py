"""Asks every node where it is; then ends, fails or hangs, as the run config `mode` says."""

import time
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

from nakt_fed.errors import RunError
from nakt_fed.events import EventLog

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    mode = context.run_config["mode"]
    events = EventLog(Path(str(context.run_config["run-dir"])) / "events.jsonl")
    if mode == "fail":
        events.emit("error", message="it was meant to fail")
        raise RunError("it was meant to fail")
    if mode == "crash":
        raise ValueError("nobody expected this")
    nodes: list[int] = []
    while len(nodes) < 2:
        time.sleep(0.02)
        nodes = list(grid.get_node_ids())
    waiting = set(grid.push_messages([Message(RecordDict({}), node, "query.where", ttl=100) for node in nodes]))
    while waiting:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            events.emit("where", **dict(reply.content["facts"]))
        time.sleep(0.02)
    while mode == "hang":
        time.sleep(0.1)
