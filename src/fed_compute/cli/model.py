"""`fed-compute model`: the versions of a job's model, as files, and how they differ."""

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

from fed_compute.cli.admin_api import DEFAULT_URL, AdminApi, AsJson, Limit, Url, connect_open, job_in_path
from fed_compute.cli.console import print_json, print_line
from fed_compute.cli.files import Force, new_path, require_new
from fed_compute.cli.shown import figure, show_table, when
from fed_compute.cli.transfers import FetchedModel, fetch_model, version_in_path
from fed_compute.errors import CallRefused, ExtraMissing, SettingInvalid
from fed_compute.learning.changes import Change, change, changes
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.schema import ParameterSchema, Vector

app = typer.Typer(no_args_is_help=True, help="Models: list, get, export, diff.")

OfJob = Annotated[
    str | None, typer.Option("--job", help="The job's name.", show_default="the one named default, else the oldest")
]
Version = Annotated[str, typer.Argument(help="A version like v3, or latest.")]
Format = Literal["safetensors", "state_dict", "onnx"]
_ENDINGS: dict[Format, str] = {"safetensors": "safetensors", "state_dict": "pt", "onnx": "onnx"}


@app.command("list")
def list_models(job: OfJob = None, limit: Limit = 20, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """List the newest versions of a job's model, with what clients measured on their own held-out data."""
    with connect_open(url) as api:
        versions = _details(api, job)["versions"][-limit:]
    if as_json:
        print_json(versions)
        return
    now = time.time()
    show_table(
        ("version", "made", "round", "updates", "samples", "accuracy", "loss", "sha-256"),
        [
            (
                version["version"],
                when(version["created_at"], now=now),
                "–" if version["round_id"] is None else str(version["round_id"]),
                str(version["num_updates"]),
                f"{version['num_samples']:,}",
                figure(version["accuracy"]),
                figure(version["loss"]),
                version["digest"][:12],
            )
            for version in versions
        ],
        empty="no versions",
    )


@app.command()
def get(
    version: Version = "latest",
    job: OfJob = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file.", show_default="JOB-VERSION.safetensors")
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Fetch a model as its safetensors file, checked against its digest."""
    with connect_open(url) as api:
        name, named = _named(api, job, version)
        file = out or Path(f"{name}-{named}.safetensors")
        require_new(file, force=force)
        with new_path(file) as new:
            fetched = fetch_model(api, name, named, new)
    _tell(name, fetched, file, as_json=as_json)


@app.command()
def export(
    version: Version = "latest",
    to: Annotated[
        Format,
        typer.Option("--format", help="safetensors; state_dict, a file for torch.load; or onnx."),
    ] = "safetensors",
    job: OfJob = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file.", show_default="JOB-VERSION.ENDING")
    ] = None,
    input_shape: Annotated[
        str | None,
        typer.Option("--input-shape", help="For ONNX of a plug-in model: the shape of one sample. Example: 3,32,32"),
    ] = None,
    force: Force = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Write a model for another tool, and check that it is the same there.

    state_dict and onnx need PyTorch and the model itself on this machine: the extra `client`, or `onnx`.
    """
    shape = None if input_shape is None else _shape(input_shape)
    with connect_open(url) as api:
        name, named = _named(api, job, version)
        file = out or Path(f"{name}-{named}.{_ENDINGS[to]}")
        require_new(file, force=force)
        with new_path(file) as new:
            fetched = fetch_model(api, name, named, new)
            if to != "safetensors":
                new.write_bytes(_converted(_details(api, name), new.read_bytes(), fetched, to, shape))
    _tell(name, fetched, file, as_json=as_json)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A version like v3, or latest.")],
    after: Annotated[str, typer.Argument(help="Another one.")],
    job: OfJob = None,
    by: Annotated[
        Literal["order", "change", "relative", "cosine"],
        typer.Option("--by", help="How to sort: as in the model, or what changed most first."),
    ] = "order",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Compare two versions: norms, cosines and the largest changes of every parameter, and of the whole."""
    version_in_path(before)
    version_in_path(after)
    with connect_open(url) as api:
        details = _details(api, job)
        schema = ParameterSchema.from_json(details["parameters"])
        old, new = (_vector(api, details["name"], version, schema) for version in (before, after))
    whole = change("", old, new)
    parts = sorted(changes(schema.split(old), schema.split(new)), key=_sorting(by))
    if as_json:
        print_json(
            {
                "job": details["name"],
                "before": before,
                "after": after,
                "whole": _facts(whole),
                "parameters": [_facts(part) for part in parts],
            }
        )
        return
    show_table(
        ("parameter", "values", before, after, "change", "relative", "cosine", "largest", "at"),
        [_row(part, part.name) for part in parts] + [_row(whole, "all")],
        empty="no parameters",
    )


def _details(api: AdminApi, job: str | None) -> dict[str, Any]:
    """Return everything about a job; None is the default one, as the coordinator has it."""
    if job is None:
        names = [one["name"] for one in api.get("/jobs")["jobs"]]
        if not names:
            raise CallRefused(f"{api.url} has no jobs; create one with: fed-compute job create FILE")
        job = "default" if "default" in names else names[0]
    return api.get(f"/jobs/{job_in_path(job)}")


def _named(api: AdminApi, job: str | None, version: str) -> tuple[str, str]:
    """Return the job's name, and the version by its number."""
    version_in_path(version)
    details = _details(api, job)
    return details["name"], details["latest_version"] if version == "latest" else version


def _tell(job: str, fetched: FetchedModel, file: Path, *, as_json: bool) -> None:
    num_bytes = file.stat().st_size
    if as_json:
        print_json(
            {"job": job, "version": fetched.version, "digest": fetched.digest, "file": str(file), "bytes": num_bytes}
        )
    else:
        print_line(f"{file}: {fetched.version} of job {job}, {num_bytes:,} bytes; model sha-256 {fetched.digest}")


def _converted(
    details: dict[str, Any], body: bytes, fetched: FetchedModel, to: Format, shape: tuple[int, ...] | None
) -> bytes:
    """Return a model file in another form.

    Raises:
        ExtraMissing: if PyTorch, or ONNX, is not installed.
        ModelUnknown, ModelMismatch: if the model is not on this machine, or is another one.
        ConversionFailed: if it would not be the same.
    """
    try:
        from fed_compute.client.models.conversion import sample_shape, to_state_dict_file
        from fed_compute.client.models.registry import build_named
        from fed_compute.client.models.vectors import load_vector
    except ModuleNotFoundError as error:
        raise ExtraMissing(what=f"exporting as {to}", extra="client") from error
    schema = ParameterSchema.from_json(details["parameters"])
    module = build_named(details["recipe"]["model"]["name"], details["recipe"]["model"]["args"], schema)
    load_vector(module, schema, decode_model(body, schema))
    if to == "state_dict":
        return to_state_dict_file(module)
    try:
        from fed_compute.client.models.onnx_graphs import to_onnx_file
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="exporting as onnx", extra="onnx") from error
    facts = {"job": details["name"], "version": fetched.version, "model_sha256": fetched.digest}
    return to_onnx_file(module, sample_shape(module, shape), facts=facts)


def _shape(text: str) -> tuple[int, ...]:
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise SettingInvalid(f"--input-shape is {text[:80]!r}, wanted whole numbers like 3,32,32")
    return shape


def _vector(api: AdminApi, job: str, version: str, schema: ParameterSchema) -> Vector:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model"
        fetch_model(api, job, version, file)
        return decode_model(file.read_bytes(), schema)


def _sorting(by: str) -> Callable[[Change], float]:
    keys: dict[str, Callable[[Change], float]] = {
        "order": lambda part: 0,
        "change": lambda part: -part.norm_of_change,
        "relative": lambda part: -(part.relative if part.relative is not None else float("inf")),
        "cosine": lambda part: 1.0 if part.cosine is None else part.cosine,
    }
    return keys[by]


def _facts(part: Change) -> dict[str, Any]:
    return {**asdict(part), "relative": part.relative}


def _row(part: Change, name: str) -> tuple[str, ...]:
    return (
        name,
        f"{part.size:,}",
        figure(part.norm_before),
        figure(part.norm_after),
        figure(part.norm_of_change),
        "–" if part.relative is None else f"{part.relative:.1%}",
        "–" if part.cosine is None else f"{part.cosine:.4f}",
        figure(part.largest),
        ",".join(str(place) for place in part.largest_at) or "–",
    )
