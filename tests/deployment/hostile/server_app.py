"""A coordinator's app that means harm: it sends the attack to every site and writes down what came back."""

import json
import time
from pathlib import Path

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    content = RecordDict({"targets": ConfigRecord({"json": str(context.run_config["targets"])})})
    waiting = set(grid.push_messages([Message(content, node, "query.attack", ttl=300) for node in nodes]))
    told: list[str] = []
    while waiting:
        for message in grid.pull_messages(list(waiting)):
            waiting.discard(message.metadata.reply_to_message_id)
            told.append(
                f'{{"error": {json.dumps(str(message.error))}}}'
                if message.has_error()
                else str(message.content.config_records["loot"]["json"])
            )
        time.sleep(0.2)
    Path(str(context.run_config["out"])).write_text("\n".join(told))
