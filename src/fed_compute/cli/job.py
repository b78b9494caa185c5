"""`fed-compute job`: what is trained here, how far it is, and an operator's hand on it."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from fed_compute.cli.admin_api import (
    DEFAULT_DATA_DIR,
    DEFAULT_URL,
    AdminApi,
    AsJson,
    DataDir,
    KeyFile,
    Limit,
    Url,
    connect,
    connect_open,
    job_in_path,
)
from fed_compute.cli.console import err, print_json, print_line
from fed_compute.cli.files import Force
from fed_compute.cli.job_export import Models, export_job
from fed_compute.cli.job_file import read_job
from fed_compute.cli.job_watch import watch_job
from fed_compute.cli.shown import date, figure, show_facts, show_table, span, state, when
from fed_compute.errors import SettingInvalid

app = typer.Typer(no_args_is_help=True, help="Jobs: create, list, show, watch, pause, resume, stop, export.")

Name = Annotated[str, typer.Argument(help="The job's name.")]


@app.command()
def create(
    file: Annotated[Path, typer.Argument(help="A job file: TOML, or the JSON of `job export`.")],
    first_model: Annotated[
        Path | None,
        typer.Option("--first-model", help="A model file to start from, as `model get` writes; else v1 is drawn."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Create a job from a job file. The same file again changes nothing.

    A plug-in model must be installed here: the coordinator runs no model, so its parameters and v1 come from here.
    """
    body, content_type = read_job(file, first_model)
    with connect(url, key_file, data_dir) as api:
        is_new, job = api.post_body("/jobs", body, content_type=content_type)
    if as_json:
        print_json(job)
        return
    done = "is created" if is_new else "exists already, and is the same"
    print_line(f"job {job['name']} {done}: {job['model']} with {job['num_parameters']:,} parameters")
    print_line(f"clients join with: fed-compute join {api.url}")


@app.command("list")
def list_jobs(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the jobs, oldest first."""
    with connect_open(url) as api:
        jobs = api.get("/jobs")["jobs"]
    if as_json:
        print_json(jobs)
        return
    now = time.time()
    show_table(
        ("job", "state", "rounds", "model", "parameters", "newest", "made"),
        [
            (
                job["name"],
                state(job["state"]),
                f"{job['rounds_closed']}/{job['rounds_total']}",
                job["model"],
                f"{job['num_parameters']:,}",
                job["latest_version"],
                when(job["created_at"], now=now),
            )
            for job in jobs
        ],
        empty="no jobs; create one with: fed-compute job create FILE",
    )


@app.command()
def show(name: Name, limit: Limit = 10, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Show one job: its recipe in short, where it stands, and its last rounds."""
    with connect_open(url) as api:
        job = api.get(f"/jobs/{job_in_path(name)}")
    if as_json:
        print_json(job)
        return
    newest = job["versions"][-1]
    quality = f"accuracy {figure(newest['accuracy'])}, loss {figure(newest['loss'])}" if newest["evaluations"] else ""
    show_facts(
        [
            ("job", job["name"]),
            ("state", state(job["state"])),
            *([("about", job["description"])] if job["description"] else []),
            ("mode", _mode(job)),
            ("model", f"{job['model']} with {job['num_parameters']:,} parameters"),
            ("rounds", _rounds_in_words(job)),
            ("newest", f"{newest['version']}{', ' if quality else ''}{quality}"),
            ("made", date(job["created_at"])),
        ]
    )
    print_line("")
    _show_rounds(job["rounds"][-limit:])


@app.command()
def watch(
    name: Name,
    every: Annotated[float, typer.Option("--every", min=0.1, max=60, help="Seconds between two looks.")] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each change.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Watch a job until it ends: its round, its clients, its curves. Ctrl-C stops watching, not the job."""
    with connect_open(url) as api:
        watch_job(api, job_in_path(name), every_seconds=every, as_json=as_json)


@app.command()
def pause(
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Hand out no more work of a job. Work in progress may still be delivered, and no round loses time."""
    with connect(url, key_file, data_dir) as api:
        done = _steer(api, name, "pause", as_json=as_json)
    if not as_json:
        print_line(f"job {done['name']} is paused; go on with: fed-compute job resume {done['name']}")


@app.command()
def resume(
    name: Name,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Go on with a paused job, where it was."""
    with connect(url, key_file, data_dir) as api:
        done = _steer(api, name, "resume", as_json=as_json)
    if not as_json:
        print_line(f"job {done['name']} is running")


@app.command()
def stop(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
    key_file: KeyFile = None,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """End a job for good: its round is given up, its clients are called off, its models stay."""
    job_in_path(name)
    if not yes:
        _require_consent(name)
    with connect(url, key_file, data_dir) as api:
        done = _steer(api, name, "stop", as_json=as_json)
    if not as_json:
        print_line(f"job {done['name']} is stopped; its newest model is {done['latest_version']}")


@app.command()
def export(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The folder to make; a name ending in .zip makes one file.", show_default="NAME"
        ),
    ] = None,
    models: Annotated[Models, typer.Option("--models", help="Which model files to write.")] = "all",
    force: Force = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Write a job down: recipe, rounds, versions, models, and a manifest with the digest of every file.

    The same state of a job gives the same bytes, whoever exports it.
    """
    with connect_open(url) as api:
        made = export_job(api, job_in_path(name), out or Path(name), models=models, force=force)
    if as_json:
        print_json({"job": name, "out": str(made.path), "files": made.num_files, "bytes": made.num_bytes})
    else:
        print_line(f"{made.path}: {made.num_files} files, {made.num_bytes / 1e6:,.1f} MB")


def _steer(api: AdminApi, name: str, act: str, *, as_json: bool) -> dict[str, Any]:
    done = api.post(f"/jobs/{job_in_path(name)}/{act}")
    if as_json:
        print_json(done)
    return done


def _require_consent(name: str) -> None:
    """Ask on a terminal.

    Raises:
        SettingInvalid: if there is nobody to ask.
        Abort: if the answer is no.
    """
    if not err.is_terminal:
        raise SettingInvalid(f"stopping job {name} is final; say so with --yes")
    typer.confirm(f"Stop job {name} for good? Its round is given up; nothing resumes it", abort=True, err=True)


def _rounds_in_words(job: dict[str, Any]) -> str:
    text = f"{job['rounds_closed']} of {job['rounds_total']} closed"
    if job["current_round_id"] is None:
        return text
    live = next((round_ for round_ in job["rounds"] if round_["round_id"] == job["current_round_id"]), None)
    return text if live is None else f"{text}; round {live['number']} is {live['state'].lower()}"


def _show_rounds(rounds: list[dict[str, Any]]) -> None:
    show_table(
        ("id", "round", "state", "updates", "late", "refused", "accuracy", "loss", "took", "version"),
        [
            (
                str(round_["round_id"]),
                str(round_["number"]),
                state(round_["state"]),
                str(round_["updates_accepted"]),
                str(round_["updates_late"]),
                str(round_["updates_refused"]),
                figure(round_["accuracy"]),
                figure(round_["evaluation_loss"]),
                "–" if round_["duration_seconds"] is None else span(round_["duration_seconds"]),
                round_["result_version"] or "–",
            )
            for round_ in rounds
        ],
        empty="no rounds yet",
    )


def _mode(job: dict[str, Any]) -> str:
    """Return how a job's rounds close: as its file says, and as this coordinator does it if that differs."""
    asked, done = job["mode"], job["mode_in_force"]
    return str(asked if asked == done else f"{done} by ENABLE_ASYNC_ROUNDS; on record {asked}")
