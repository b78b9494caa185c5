"""The figures of a demonstration, for programs."""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fed_compute.cli.demo.places import Places
from fed_compute.cli.demo.plan import DemoPlan
from fed_compute.cli.demo.story import RoundStory, Story


def summary_of(
    plan: DemoPlan, story: Story, places: Places, *, final: Mapping[str, Any], started_at: float, seconds: float
) -> dict[str, Any]:
    """Return the run in figures.

    Args:
        final: the job's last version as the coordinator describes it.
        started_at: when the demonstration began, in Unix seconds.
        seconds: how long all of it took, processes started and ended.
    """
    last = story.closed[-1]
    return {
        "fed_compute_version": version("fed-compute"),
        "seed": plan.seed,
        "drop": plan.drop,
        "clients": plan.clients,
        "target_updates": plan.target_updates,
        "rounds_closed": len(story.closed),
        "rounds_given_up": sum(round_.state == "given up" for round_ in story.rounds.values()),
        "seconds": round(seconds, 2),
        "accuracy": last.accuracy,
        "loss": last.loss,
        "held_out_samples": sum(found[0] for found in last.measured.values()),
        "measured_by": len(last.measured),
        "model": {"version": final["version"], "digest": final["digest"], "file": str(places.model)},
        "deaths": sum(client.died for client in story.clients.values()),
        "returns": sum(client.came_back for client in story.clients.values()),
        "by_round": [_round(round_, started_at) for round_ in story.closed],
        "by_client": [
            {
                "name": client.name,
                "data": plan.data_of(client.name),
                "training_samples": client.samples,
                "updates": client.updates,
                "accuracy": client.accuracy,
                "died": client.died,
                "came_back": client.came_back,
            }
            for client in story.clients.values()
        ],
        "files": {
            "curves": str(places.curves),
            "summary": str(places.summary),
            "data_dir": str(places.data_dir),
            "job": str(places.job_file),
            "logs": str(places.log_of("coordinator").parent),
        },
    }


def write_summary(summary: Mapping[str, Any], places: Places) -> None:
    """Write the summary as JSON."""
    places.summary.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")


def _round(round_: RoundStory, started_at: float) -> dict[str, Any]:
    return {
        "round": round_.number,
        "updates": round_.updates,
        "train_loss": round_.train_loss,
        "loss": round_.loss,
        "accuracy": round_.accuracy,
        "measured_by": len(round_.measured),
        "deaths": round_.deaths,
        "elapsed_seconds": None if round_.closed_at is None else round(round_.closed_at - started_at, 2),
    }
