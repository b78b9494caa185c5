"""`fed-compute round`: one round of a job, and its early end."""

from typing import Annotated, Any

import typer

from fed_compute.cli.admin_api import (
    DEFAULT_DATA_DIR,
    DEFAULT_URL,
    AsJson,
    DataDir,
    KeyFile,
    Url,
    connect,
    connect_open,
)
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.shown import date, figure, show_facts, show_table, span, state

app = typer.Typer(no_args_is_help=True, help="Rounds: show, close.")

Id = Annotated[int, typer.Argument(min=1, max=2**53, help="The round's number, as `job show` lists it under id.")]


@app.command()
def show(round_id: Id, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one round: where it stands, who has reported and how long that took, who came too late."""
    with connect_open(url) as api:
        status = api.get(f"/status/{round_id}")
        timing = api.get(f"/async/round/{round_id}/stats")
        measures = api.get(f"/metrics/round/{round_id}")
    if as_json:
        print_json({"status": status, "timing": timing, "metrics": measures})
        return
    show_facts([*_standing(status, timing), *_measured(measures)])
    print_line("")
    _show_clients(status, timing)


@app.command()
def close(
    round_id: Id,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Close a round early with the updates that it has, if they are enough. One that is closed stays as it is."""
    with connect(url, key_file, data_dir) as api:
        done = api.get(f"/aggregate/{round_id}")
    if as_json:
        print_json({name: value for name, value in done.items() if name != "aggregated_model"})
        return
    print_line(
        f"round {round_id} of job {done['job']} is closed: {done['num_updates']} updates made {done['model_version']}"
    )


def _standing(status: dict[str, Any], timing: dict[str, Any]) -> list[tuple[str, Any]]:
    elapsed, latency = timing["elapsed_seconds"], timing["mean_latency_seconds"]
    facts: list[tuple[str, Any]] = [
        ("round", f"{status['round_id']} of job {status['job']}, {timing['mode']}"),
        ("state", state(status["state"])),
        *([("because", status["reason"])] if status["reason"] else []),
        ("changes", status["model_version"]),
        *([("made", status["result_version"])] if status["result_version"] else []),
        (
            "updates",
            f"{status['total_updates']}; it closes with {status['target_updates']}, needs {status['min_updates']}",
        ),
        ("opened", date(status["opened_at"])),
    ]
    if elapsed is not None:
        facts.append(("lasted", f"{span(elapsed)} of {span(timing['max_duration_seconds'])}"))
    if latency is not None:
        facts.append(("mean time to an update", f"{latency:.1f} s"))
    return facts


def _measured(measures: dict[str, Any]) -> list[tuple[str, Any]]:
    facts: list[tuple[str, Any]] = []
    if measures["train_loss"] is not None:
        facts.append(("training loss", figure(measures["train_loss"])))
    if measures["evaluations"]:
        quality = f"accuracy {figure(measures['accuracy'])}, loss {figure(measures['evaluation_loss'])}"
        facts.append(("measured", f"{quality}, on {measures['evaluation_samples']:,} samples"))
    return facts


def _show_clients(status: dict[str, Any], timing: dict[str, Any]) -> None:
    arrived = {one["client_id"]: one for one in timing["arrivals"]}
    late = {one["client_id"]: one for one in timing["stragglers"]}
    rows = []
    for client in dict.fromkeys([*status["assigned_clients"], *arrived, *late]):
        found = arrived.get(client) or late.get(client)
        told = "reported" if client in arrived else "late" if client in late else "no update"
        behind = "–" if found is None or found["staleness"] is None else str(found["staleness"])
        took = "–" if found is None else f"{found['latency_seconds']:.1f} s"
        rows.append((client, told, took, behind))
    show_table(("client", "update", "took", "versions behind"), rows, empty="nobody was given a task of it")
