"""Updates: the JSON form of the first API, and the binary form, whole or resumed."""

import re
from functools import partial
from typing import Annotated, Literal

import anyio.to_thread
from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.queries import accepted_update
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.update_validator import Admission
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import NotAssigned, RoundNotFound, TaskNotFound, UpdateRefused, UploadOffsetMismatch
from fed_compute.ids import Digest, TaskId
from fed_compute.protocol.json_updates import JSON_BYTES_PER_VALUE
from fed_compute.protocol.messages import SAFETENSORS, SAFETENSORS_ZSTD, UpdateAnswer, UpdateRequest
from fed_compute.server.bodies import SMALL_BODY_BYTES, parse_json, read_body, require_json, require_type
from fed_compute.server.dependencies import MAX_ROUND_ID, Key, ServerState, SignedIn, State, TaskName
from fed_compute.server.documentation import (
    BLOBS,
    BODY,
    CLIENT,
    DISK,
    RECORDS,
    ROUND,
    UPDATE,
    UPLOAD,
    binary,
    documented_progress,
    refusals,
    takes,
    takes_json,
)
from fed_compute.server.limits import apply_limits, charge_update
from fed_compute.server.log_context import concerns
from fed_compute.server.uploads import (
    PARTIAL_UPLOAD,
    Piece,
    announced_digest,
    announced_length,
    length_bounds,
    require_digest,
    require_encoding,
    require_offset,
)

Offset = Annotated[
    int, Header(alias="Upload-Offset", ge=0, le=2**53, description="Bytes of the whole before this piece.")
]
LastPiece = Annotated[
    Literal["?0", "?1"], Header(alias="Upload-Complete", description="`?1` with the last piece (a structured boolean).")
]

_KEY_WITHIN = re.compile(rb'"api_key"\s*:\s*"([^"\\]{1,200})"')

router = APIRouter(tags=["updates"])


@router.post(
    "/update",
    summary="Submit an update as JSON",
    response_model=UpdateAnswer,
    responses=refusals(*RECORDS, *BLOBS, *DISK, *CLIENT, *BODY, *ROUND, *UPDATE, RoundNotFound, NotAssigned),
    openapi_extra=takes_json(UpdateRequest),
)
async def submit_update(request: Request, state: State, key: Key) -> Response:
    """Take an update in. When this answers, the update is durable and will be counted exactly once.

    `weight_delta` is a JSON text, or the same as plain JSON: `{name: nested list}`, or a list of
    arrays in parameter order; either may stand under the key `weight_delta` of an object.
    """
    require_json(request)
    core = state.coordinator
    limit = await anyio.to_thread.run_sync(_before_the_body, core, key)
    with state.seats.taken(None):
        body = await read_body(request, limit=limit)
        async with state.reading_json:
            return await anyio.to_thread.run_sync(_accept_json, request, core, key, body)


def _before_the_body(core: Coordinator, key: str | None) -> int:
    """Look at the key, if it came with the head; return how long a JSON update of any job here may be, in bytes."""
    if key is not None or not core.settings.allow_query_keys:
        core.auth.authenticate(key)
    largest = max((schema_of(job).num_parameters for job in core.jobs.all()), default=0)
    return min(core.settings.json_max_bytes, SMALL_BODY_BYTES + JSON_BYTES_PER_VALUE * largest)


def _accept_json(request: Request, core: Coordinator, key: str | None, body: bytes) -> Response:
    if key is None:
        core.auth.authenticate(_key_within(body))  # before the body is read as JSON, which takes much memory
    update = parse_json(body, UpdateRequest)
    if key is None:
        key = update.api_key
    client_id = core.auth.require_client(key, update.client_id)
    concerns(client_id=client_id, round_id=update.round_id)
    charge_update(core, request, client_id, num_bytes=len(body))
    if not 1 <= update.round_id <= MAX_ROUND_ID:
        raise RoundNotFound(update.round_id)
    accepted = core.pipeline.accept_json(key, update, max_bytes=core.settings.json_max_bytes)
    concerns(task_id=accepted.update.task_id)
    core.presence.note(client_id)
    return JSONResponse(_update_answer(accepted).model_dump(mode="json"))


def _key_within(body: bytes) -> str | None:
    """Return what looks like the key in a body that is not read yet; None if nothing does."""
    match = _KEY_WITHIN.search(body)
    return None if match is None else match[1].decode("ascii", "replace")


@router.put(
    "/tasks/{task_id}/update",
    summary="Submit an update as safetensors",
    status_code=201,
    response_model=UpdateAnswer,
    responses={
        200: {"model": UpdateAnswer, "description": "The same update was accepted before"},
        **refusals(*RECORDS, *BLOBS, *DISK, *CLIENT, *BODY, *ROUND, *UPDATE, *UPLOAD),
    },
    openapi_extra=takes({SAFETENSORS: binary(), SAFETENSORS_ZSTD: binary()}),
)
async def put_update(request: Request, state: State, task_id: TaskName, key: Key) -> Response:
    """Take a whole body in, from its first byte. Sending the same bytes again is safe: they count once.

    `Content-Length` and `Content-Digest: sha-256=:…:` are required. If the connection breaks, what
    came is kept: `HEAD` tells how much, `PATCH` goes on.
    """
    admission = await _admit(state, key, task_id)
    require_encoding(request, admission)
    least, limit = length_bounds(admission)
    length = announced_length(request, limit=limit, least=least)
    announced = announced_digest(request)
    if (settled := await anyio.to_thread.run_sync(_settle, state, admission, announced)) is not None:
        return settled
    with state.seats.taken(admission.task.client_id), state.uploads.claim(admission.task.task_id):
        await _charge(state, request, admission, length)
        digest = await _receive(request, state, admission, offset=0, length=length, is_last=True)
        return await _judge(state, admission, digest, announced)


@router.head(
    "/tasks/{task_id}/update",
    summary="Ask how much of an update has arrived",
    response_class=Response,
    responses={
        200: {"description": "How much has arrived", "headers": documented_progress()},
        **refusals(*RECORDS, *CLIENT, TaskNotFound),
    },
)
def stored_part(state: State, client_id: SignedIn, task_id: TaskName) -> Response:
    """Answer with `Upload-Offset`, the number of bytes that are stored, and `Upload-Complete: ?1` once accepted."""
    update = accepted_update(state.coordinator.store, client_id, TaskId(task_id))
    offset = state.uploads.stored_bytes(TaskId(task_id)) if update is None else update.size_bytes
    return Response(status_code=200, headers=_progress(offset, complete=update is not None))


@router.patch(
    "/tasks/{task_id}/update",
    summary="Continue an update that broke off",
    status_code=201,
    response_model=UpdateAnswer,
    responses={
        200: {"model": UpdateAnswer, "description": "The same update was accepted before"},
        204: {
            "description": "The piece is stored; Upload-Offset says where to go on",
            "headers": documented_progress(),
        },
        **refusals(*RECORDS, *BLOBS, *DISK, *CLIENT, *BODY, *ROUND, *UPDATE, *UPLOAD, UploadOffsetMismatch),
    },
    openapi_extra=takes({PARTIAL_UPLOAD: binary()}),
)
async def continue_update(
    request: Request,
    state: State,
    task_id: TaskName,
    key: Key,
    upload_offset: Offset,
    upload_complete: LastPiece = "?0",
) -> Response:
    """Append a piece at `Upload-Offset`, which must be where the stored part ends.

    The last piece says `Upload-Complete: ?1` and brings the `Content-Digest` of the whole body.
    """
    admission = await _admit(state, key, task_id)
    require_type(request, PARTIAL_UPLOAD)
    task_id, is_last = admission.task.task_id, upload_complete == "?1"
    least, limit = (max(0, bound - upload_offset) for bound in length_bounds(admission))
    length = announced_length(request, limit=limit, least=least if is_last else 0)
    announced = announced_digest(request) if is_last else None
    if announced and (settled := await anyio.to_thread.run_sync(_settle, state, admission, announced)) is not None:
        return settled
    with state.seats.taken(admission.task.client_id), state.uploads.claim(task_id):
        require_offset(got=upload_offset, stored=state.uploads.stored_bytes(task_id))
        await _charge(state, request, admission, length)
        digest = await _receive(request, state, admission, offset=upload_offset, length=length, is_last=is_last)
        if announced is None:
            return Response(status_code=204, headers=_progress(upload_offset + length, complete=False))
        return await _judge(state, admission, digest, announced)


async def _admit(state: ServerState, key: str | None, task_id: str) -> Admission:
    pipeline, presence = state.coordinator.pipeline, state.coordinator.presence
    admission = await anyio.to_thread.run_sync(pipeline.admit, key, TaskId(task_id))
    concerns(client_id=admission.task.client_id, job=admission.job.name, round_id=admission.task.round_id)
    presence.note(admission.task.client_id)
    return admission


def _settle(state: ServerState, admission: Admission, announced: Digest) -> Response | None:
    """Answer for a task that has its update already, by the digest alone; None if it has none yet."""
    accepted = state.coordinator.pipeline.settle(admission, announced)
    if accepted is None:
        return None
    state.uploads.drop(admission.task.task_id)
    return _accepted(accepted)


async def _receive(
    request: Request, state: ServerState, admission: Admission, *, offset: int, length: int, is_last: bool
) -> Digest:
    """Write the body to its file; return the file's digest. If its first bytes are refused, nothing of it is kept."""
    pipeline, task = state.coordinator.pipeline, admission.task
    total_bytes = offset + length if is_last else None
    judge = partial(pipeline.check_head, admission, total_bytes=total_bytes)
    try:
        return await state.uploads.receive(request, task.task_id, Piece(offset, length, is_last, judge))
    except UpdateRefused as refusal:
        state.uploads.drop(task.task_id)
        await anyio.to_thread.run_sync(pipeline.note_refusal, task, refusal)
        raise


async def _judge(state: ServerState, admission: Admission, digest: Digest, announced: Digest) -> Response:
    async with state.judging:
        return await anyio.to_thread.run_sync(_accept_file, state, admission, digest, announced)


async def _charge(state: ServerState, request: Request, admission: Admission, num_bytes: int) -> None:
    charge = partial(charge_update, state.coordinator, request, admission.task.client_id, num_bytes=num_bytes)
    await apply_limits(state.coordinator, charge)


def _accept_file(state: ServerState, admission: Admission, digest: Digest, announced: Digest) -> Response:
    """Judge a body that has arrived whole. Whatever comes of it, its file is gone afterwards."""
    task_id = admission.task.task_id
    try:
        require_digest(got=digest, announced=announced)
        accepted = state.coordinator.pipeline.accept_file(admission, state.uploads.path(task_id), digest)
    finally:
        state.uploads.drop(task_id)
    return _accepted(accepted)


def _accepted(accepted: Accepted) -> Response:
    status = 200 if accepted.repeated else 201
    headers = _progress(accepted.update.size_bytes, complete=True)
    return JSONResponse(_update_answer(accepted).model_dump(mode="json"), status_code=status, headers=headers)


def _progress(offset: int, *, complete: bool) -> dict[str, str]:
    return {
        "Upload-Offset": str(offset),
        "Upload-Complete": "?1" if complete else "?0",
        "Cache-Control": "no-store",
    }


def _update_answer(accepted: Accepted) -> UpdateAnswer:
    update = accepted.update
    return UpdateAnswer(
        success=True,
        message=f"Update from client {update.client_id} submitted successfully for round {update.round_id}",
        update_id=update.update_id,
        round_id=update.round_id,
        task_id=update.task_id,
        digest=update.digest,
        repeated=accepted.repeated,
    )
