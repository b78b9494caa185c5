"""`fed-compute demo`: see a model being trained by several machines, on one machine."""

import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console

from fed_compute.cli.console import err, print_json, print_line
from fed_compute.cli.demo.curves import count_holdings, draw_curves
from fed_compute.cli.demo.feed import Feed
from fed_compute.cli.demo.fleet import Fleet
from fed_compute.cli.demo.mishaps import Mishaps
from fed_compute.cli.demo.places import Places, prepare
from fed_compute.cli.demo.plan import JOB_NAME, DemoPlan, make_plan
from fed_compute.cli.demo.report import summary_of, write_summary
from fed_compute.cli.demo.story import Story
from fed_compute.cli.demo.watch import LineScreen, Show, live_screen
from fed_compute.clock import Clock, SystemClock
from fed_compute.errors import DemoFailed, ExtraMissing
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import SAFETENSORS

INTERRUPTED, TERMINATED = 130, 143
STALL_SECONDS, STALL_SECONDS_A_CLIENT = 120.0, 10.0
"""So long without any news, and the demonstration gives up. Many clients take long to start on few cores."""

MEASURING_SECONDS = 45.0
"""How long the clients have, once the job is finished, to measure the final model."""

_TICK_SECONDS = 0.1
_NEEDED = ("torch", "sklearn", "matplotlib")


def demo(
    clients: Annotated[int, typer.Option(help="Client processes, 1 to 50.")] = 5,
    rounds: Annotated[int, typer.Option(help="Rounds to train, 1 to 1000.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the split, the first model and all training.")] = 1,
    drop: Annotated[
        float, typer.Option(help="Probability that a client is killed in a round, 0 to 1. It comes back seconds later.")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document, no table.")] = False,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="New or empty folder for the run.", show_default="the next run-N in the report folder"),
    ] = None,
    report_dir: Annotated[Path, typer.Option(help="Folder for picture, summary and model.")] = Path("demo-report"),
) -> None:
    """Train one model with a real coordinator and real client processes on this machine.

    The clients hold disjoint and very different parts of the digits that scikit-learn ships. Without --drop, the same
    seed and number of clients give the same model, byte for byte.
    """
    plan = make_plan(clients=clients, rounds=rounds, seed=seed, drop=drop)
    for library in _NEEDED:
        if find_spec(library) is None:
            raise ExtraMissing(what=f"the demonstration ({library} is not there)", extra="demo")
    places = prepare(report_dir, data_dir)
    try:
        with _sigterm_as_exit():
            summary = _run(plan, places, SystemClock(), quiet=as_json)
    except KeyboardInterrupt:
        err.print("stopped; no process is left running")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(summary)
    else:
        for line in farewell(summary, program=program_name(sys.argv[0])):
            print_line(line)


def _run(plan: DemoPlan, places: Places, clock: Clock, *, quiet: bool) -> dict[str, Any]:
    """Do everything, and return the summary. No process is left running, however it ends."""
    began, started_at = clock.monotonic(), clock.now()
    story = Story(plan.names, rounds_total=plan.rounds, target_updates=plan.target_updates)
    with Fleet(plan, places, clock, os.environ) as fleet, _screen(clock, started_at=started_at, quiet=quiet) as show:
        show(story)
        story.url = fleet.start_coordinator()
        for name in plan.names:
            fleet.start_client(name)
        with Feed(story.url, clock) as feed:
            _follow(story, feed, show, fleet, Mishaps(plan, fleet, clock), clock)
            final = _fetch_model(story.url, places)
    summary = summary_of(plan, story, places, final=final, started_at=started_at, seconds=clock.monotonic() - began)
    write_summary(summary, places)
    draw_curves(summary, count_holdings(plan), places.curves)
    return summary


def _follow(story: Story, feed: Feed, show: Show, fleet: Fleet, mishaps: Mishaps, clock: Clock) -> None:
    """Watch until the job is finished and the final model measured.

    Raises:
        DemoFailed: if a process ends by itself, or nothing happens for a long time.
    """
    patience = STALL_SECONDS + STALL_SECONDS_A_CLIENT * len(story.clients)
    news_at, finished_at = clock.monotonic(), None
    while not story.is_complete:
        for entry in feed.entries(wait_seconds=_TICK_SECONDS):
            story.take(entry)
            news_at = clock.monotonic()
        mishaps.look(story)
        show(story)
        fleet.check()
        now = clock.monotonic()
        if story.is_finished:
            finished_at = now if finished_at is None else finished_at
            if now - finished_at > MEASURING_SECONDS and story.closed[-1].measured:
                break  # some client is slow; the others have said enough
        if now - news_at > patience:
            raise DemoFailed(f"nothing happened for {patience:.0f} s, the logs may say why: {fleet.logs}")
    show(story)


def _fetch_model(url: str, places: Places) -> dict[str, Any]:
    """Download the final model into its place and return the version's description.

    Raises:
        DemoFailed: if what arrives is not the version that the job lists last.
    """
    with httpx2.Client(base_url=url, timeout=60.0, trust_env=False) as http:
        final: dict[str, Any] = http.get(f"/jobs/{JOB_NAME}").raise_for_status().json()["versions"][-1]
        query, headers = {"job": JOB_NAME}, {"Accept": SAFETENSORS}
        body = http.get(f"/model/{final['version']}", params=query, headers=headers).raise_for_status().content
    if sha256_hex(body) != final["digest"]:
        raise DemoFailed(f"the model that was downloaded is not {final['version']}, its digest is another")
    places.model.write_bytes(body)
    return final


@contextmanager
def _screen(clock: Clock, *, started_at: float, quiet: bool) -> Iterator[Show]:
    console = Console(highlight=False)
    if quiet:
        yield lambda story: None
    elif console.is_terminal and not console.is_dumb_terminal:
        with live_screen(console, started_at=started_at, now=clock.now) as show:
            yield show
    else:
        yield LineScreen(print_line, started_at=started_at).show


@contextmanager
def _sigterm_as_exit() -> Iterator[None]:
    """While the block runs, SIGTERM unwinds it, so that no process is left behind."""

    def unwind(number: int, frame: FrameType | None) -> None:
        raise SystemExit(TERMINATED)

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def farewell(summary: Mapping[str, Any], *, program: str) -> list[str]:
    """Return the last words: what came out, where it is, and how to go on."""
    model, files = summary["model"], summary["files"]
    accuracy = "unknown" if summary["accuracy"] is None else f"{summary['accuracy']:.3f}"
    deaths = f"clients were killed {_times(summary['deaths'])} and came back {_times(summary['returns'])}"
    return [
        "",
        f"{summary['rounds_closed']} rounds with {summary['clients']} clients in {summary['seconds']:.0f} s, "
        f"accuracy on held-out samples {accuracy}",
        *([deaths] if summary["deaths"] else []),
        "",
        f"  model   {model['file']}",
        f"          {model['version']}, sha-256 {model['digest']}",
        f"  curves  {files['curves']}",
        f"  figures {files['summary']}",
        f"  run     {files['data_dir']}",
        "",
        "check every promise about this run's records:",
        f"  {program} verify {files['data_dir']}",
        "open this run's coordinator again:",
        f"  {program} serve --data-dir {files['data_dir']}",
        f"train with other machines; this run's job waits for {summary['target_updates']} of them in each round:",
        f"  {program} serve --job {files['job']}",
        f"  {program} join http://127.0.0.1:8000 --data {summary['by_client'][0]['data']}",
        *([] if summary["drop"] else ["see the same while clients are killed:", f"  {program} demo --drop 0.2"]),
    ]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def program_name(started_as: str) -> str:
    """Return how this program is called from here: by its name if the shell finds it, else by its path."""
    name = Path(started_as).name
    if name != "fed-compute":
        return "fed-compute"
    found = shutil.which(name)
    return name if found is not None and Path(found).resolve() == Path(started_as).resolve() else started_as
