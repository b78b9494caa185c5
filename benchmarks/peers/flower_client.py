"""The client app of `flower_mlp.py`, in a module of its own, which workers import.

What is defined in a program itself is sent to them by value, with each message anew.
"""

import os
from functools import cache
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from workload import EXAMPLES, Pictures, new_model
from workload import train as train_one

client_app = ClientApp()


@cache
def pictures() -> Pictures:
    """Return the pictures, which each process maps once."""
    return Pictures(Path(os.environ["PEERS_FOLDER"]))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    model, own = new_model("mlp"), pictures().shard(int(context.node_config["partition-id"]))
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    train_one(model, *own)
    content = {"arrays": ArrayRecord(model.state_dict()), "metrics": MetricRecord({"num-examples": EXAMPLES})}
    return Message(content=RecordDict(content), reply_to=message)
