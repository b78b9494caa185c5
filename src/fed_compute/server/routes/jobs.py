"""Jobs: what is trained here, and how far it is."""

import base64
import binascii
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.evaluations import VersionQuality
from fed_compute.coordinator.jobs import JobView
from fed_compute.coordinator.queries import live_round
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import (
    AuthenticationFailed,
    JobExists,
    JobFileInvalid,
    JobNotFound,
    JobOver,
    ModelMalformed,
    PermissionDenied,
    RequestInvalid,
)
from fed_compute.ids import format_version, parse_version
from fed_compute.protocol.job import JobSpec, parse_job, parse_job_text
from fed_compute.protocol.messages import Request as Message
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.server.answers import (
    JobAnswer,
    JobDetailsAnswer,
    JobsAnswer,
    ManifestAnswer,
    ManifestsAnswer,
    VersionAnswer,
)
from fed_compute.server.bodies import JSON, TOML, parse_json, read_body, require_type
from fed_compute.server.dependencies import Core, JobName, Operator, PageSize
from fed_compute.server.documentation import BLOBS, BODY, DISK, RECORDS, STAFF, refusals, takes

router = APIRouter(tags=["jobs"])

AfterVersion = Annotated[
    str | None, Query(pattern=r"^v[1-9][0-9]{0,8}$", description="Only the versions after this one.")
]


class JobRequest(Message):
    """`POST /jobs` as JSON. `parameters` describes a plug-in model, `first_model` is its v1 in base64."""

    job: dict[str, Any]
    parameters: list[dict[str, Any]] | None = None
    first_model: str | None = None


@dataclass(frozen=True, slots=True)
class _NewJob:
    spec: JobSpec
    schema: ParameterSchema | None
    first_model: bytes | None


@router.get("/jobs", summary="List the jobs", responses=refusals(*RECORDS))
def list_jobs(core: Core) -> JobsAnswer:
    """Return every job in short, oldest first."""
    return JobsAnswer(jobs=[_short(core, core.jobs.view(job.name)) for job in core.jobs.all()])


@router.get(
    "/jobs/{name}", summary="Get one job with its rounds and versions", responses=refusals(*RECORDS, JobNotFound)
)
def get_job(core: Core, name: JobName) -> JobDetailsAnswer:
    """Return a job's recipe and state, its rounds with their metrics, and its versions with their lineage."""
    view = core.jobs.view(name)
    qualities = core.evaluations.of_job(view.job.job_id)
    return JobDetailsAnswer(
        **_short(core, view).model_dump(),
        recipe=spec_of(view.job).model_dump(mode="json"),
        parameters=schema_of(view.job).to_json(),
        rounds=[r.summary() for r in core.metrics.rounds() if r.job_id == view.job.job_id],
        versions=_versions(view, qualities),
    )


@router.get(
    "/jobs/{name}/manifests",
    summary="Get what each version of a job was made of",
    responses=refusals(*RECORDS, JobNotFound),
)
def get_manifests(core: Core, name: JobName, after: AfterVersion = None, limit: PageSize = 100) -> ManifestsAnswer:
    """Return the versions' updates, by digest, with their weights, oldest version first. Whose they are is not told."""
    versions = core.jobs.view(name).versions
    start = 0 if after is None else parse_version(after)
    page = versions[start : start + limit]
    return ManifestsAnswer(
        manifests=[
            ManifestAnswer(
                version=format_version(one.version), manifest=one.manifest, digest=one.digest, chain=one.chain
            )
            for one in page
        ],
        next=format_version(page[-1].version) if start + len(page) < len(versions) and page else None,
    )


@router.post(
    "/jobs",
    summary="Create a job",
    status_code=201,
    response_model=JobAnswer,
    responses={
        200: {"model": JobAnswer, "description": "The same job exists already"},
        **refusals(
            *RECORDS,
            *BLOBS,
            *DISK,
            *BODY,
            AuthenticationFailed,
            PermissionDenied,
            JobExists,
            JobFileInvalid,
            ModelMalformed,
        ),
    },
    openapi_extra=takes({"application/json": JobRequest.model_json_schema(), TOML: {"type": "string"}}),
)
async def create_job(request: Request, core: Core, _: Operator) -> Response:
    """Add a job from a job file (`application/toml`), or from the same as JSON under the key `job`.

    Creating the same job again changes nothing and answers 200.
    """
    kind = require_type(request, JSON, TOML)
    body = await read_body(request, limit=core.settings.json_max_bytes)
    return await anyio.to_thread.run_sync(_create, core, body, kind == TOML)


@router.post(
    "/jobs/{name}/pause",
    summary="Pause a job",
    responses=refusals(*STAFF, *DISK, JobNotFound, JobOver),
)
def pause_job(core: Core, by: Operator, name: JobName) -> JobAnswer:
    """Hand out no more work of the job. Work in progress may still be delivered, deadlines stand still. Repeatable."""
    return _short(core, core.jobs.view(core.steering.pause(name, by=by.key_id).name))


@router.post(
    "/jobs/{name}/resume",
    summary="Resume a paused job",
    responses=refusals(*STAFF, *DISK, JobNotFound, JobOver),
)
def resume_job(core: Core, by: Operator, name: JobName) -> JobAnswer:
    """Go on: the job's round has as much time left as it had when the job was paused. Repeatable."""
    return _short(core, core.jobs.view(core.steering.resume(name, by=by.key_id).name))


@router.post(
    "/jobs/{name}/stop",
    summary="Stop a job for good",
    responses=refusals(*STAFF, *DISK, JobNotFound, JobOver),
)
def stop_job(core: Core, by: Operator, name: JobName) -> JobAnswer:
    """End the job. Its live round is given up and its leases end; its models stay readable. Repeatable."""
    return _short(core, core.jobs.view(core.steering.stop(name, by=by.key_id).name))


def _create(core: Coordinator, body: bytes, is_toml: bool) -> Response:
    new = _from_toml(body) if is_toml else _from_json(body)
    known = {job.name for job in core.jobs.all()}
    job = core.jobs.create(new.spec, schema=new.schema, first_model=new.first_model)
    answer = _short(core, core.jobs.view(job.name)).model_dump()
    headers = {"Location": f"/jobs/{job.name}"}
    return JSONResponse(answer, status_code=200 if job.name in known else 201, headers=headers)


def _from_toml(body: bytes) -> _NewJob:
    try:
        return _NewJob(parse_job_text(body.decode("utf-8")), None, None)
    except UnicodeDecodeError as error:
        raise RequestInvalid("the job file is not UTF-8 text") from error


def _from_json(body: bytes) -> _NewJob:
    request = parse_json(body, JobRequest)
    schema = None if request.parameters is None else ParameterSchema.from_json(request.parameters)
    try:
        model = None if request.first_model is None else base64.b64decode(request.first_model, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestInvalid("first_model is not base64") from error
    return _NewJob(parse_job(request.job), schema, model)


def _short(core: Coordinator, view: JobView) -> JobAnswer:
    spec, live = spec_of(view.job), live_round(core.store, view.job.job_id)
    return JobAnswer(
        name=view.job.name,
        description=spec.description,
        state=view.job.state,
        model=spec.model.name,
        num_parameters=schema_of(view.job).num_parameters,
        created_at=view.job.created_at,
        rounds_total=spec.rounds.total,
        rounds_closed=sum(round_.state == "CLOSED" for round_ in view.rounds),
        current_round_id=None if live is None else live.round_id,
        latest_version=format_version(view.versions[-1].version),
        mode=spec.rounds.mode,
        mode_in_force=core.settings.applied_to(spec).rounds.mode,
    )


def _versions(view: JobView, qualities: dict[int, VersionQuality]) -> list[VersionAnswer]:
    answers = []
    for version in view.versions:
        quality = qualities.get(version.version)
        answers.append(
            VersionAnswer(
                version=format_version(version.version),
                digest=version.digest,
                parent=None if version.parent is None else format_version(version.parent),
                chain=version.chain,
                round_id=version.round_id,
                num_updates=version.num_updates,
                num_samples=version.num_samples,
                created_at=version.created_at,
                evaluations=0 if quality is None else quality.num_clients,
                loss=None if quality is None else quality.loss,
                accuracy=None if quality is None else quality.accuracy,
            )
        )
    return answers
