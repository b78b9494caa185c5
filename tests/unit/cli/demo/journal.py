"""Journal entries as the live feed sends them, for stories."""

from typing import Any

from fed_compute.cli.demo.story import Story

NAMES = ("client-1", "client-2")


def entry(kind: str, at: float = 0.0, *, client: str | None = None, round_id: int | None = 1, **fields: Any) -> Any:
    """Return one entry."""
    return {"kind": kind, "at": at, "client_id": client, "round_id": round_id, "job": "demo", **fields}


def update(client: str, at: float, *, round_id: int = 1, num_samples: int = 10, loss: float = 1.0) -> Any:
    """Return the entry of an accepted update."""
    return entry("update_accepted", at, client=client, round_id=round_id, num_samples=num_samples, loss=loss)


def measured(client: str, at: float, *, accuracy: float, round_id: int = 1, num_samples: int = 10) -> Any:
    """Return the entry of a measurement on held-out samples."""
    return entry(
        "evaluation_recorded", at, client=client, round_id=round_id, num_samples=num_samples, loss=0.5,
        accuracy=accuracy,
    )  # fmt: skip


def opened(number: int, at: float, *, round_id: int | None = None) -> Any:
    """Return the entry of a new round."""
    return entry("round_opened", at, round_id=round_id or number, number=number)


def new_story(*entries: Any, rounds_total: int = 2) -> Story:
    """Return the story of two clients after some entries."""
    story = Story(NAMES, rounds_total=rounds_total, target_updates=2)
    for one in entries:
        story.take(one)
    return story


def one_round(number: int = 1, at: float = 10.0) -> list[Any]:
    """Return the entries of a whole round with two clients, without measurements."""
    return [
        opened(number, at),
        entry("round_started", at + 1, round_id=number),
        *(entry("task_assigned", at + 1, client=name, round_id=number, task="train") for name in NAMES),
        *(update(name, at + 2, round_id=number) for name in NAMES),
        entry("round_aggregating", at + 2, round_id=number),
        entry("round_closed", at + 3, round_id=number, version=number + 1),
    ]
