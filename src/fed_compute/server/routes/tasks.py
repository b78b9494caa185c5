"""Tasks: asking for one, keeping it alive, answering an evaluation, giving it back."""

import asyncio
import math
from collections.abc import Callable
from functools import partial
from typing import Annotated

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.queries import why_over
from fed_compute.coordinator.recipes import recipe_of, spec_of
from fed_compute.coordinator.task_assigner import JOB_FINISHED, Assignment, NothingToDo
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import JobNotFound, LeaseExpired, TaskNotFound
from fed_compute.ids import ClientId, Digest, TaskId, format_version
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import (
    SAFETENSORS,
    SAFETENSORS_ZSTD,
    AuditRequest,
    EvaluationRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    TaskAnswer,
    TaskDone,
)
from fed_compute.protocol.retry_window import RETRY_WINDOW, write_retry_window
from fed_compute.server.bodies import json_body
from fed_compute.server.dependencies import (
    ClientName,
    Core,
    Key,
    OfJob,
    ServerState,
    SignedIn,
    Spoken,
    State,
    TaskName,
    welcome,
)
from fed_compute.server.documentation import BLOBS, BODY, CLIENT, DISK, RECORDS, binary, refusals, takes_json
from fed_compute.server.log_context import concerns

LONGEST_WAIT_SECONDS = 30.0
SIGN_OF_LIFE_SECONDS = 5.0
"""A client that waits is noted as present this often, and one that hung up is noticed."""

REASON_HEADER = "Fed-Compute-Reason"

router = APIRouter(tags=["tasks"])


@router.get(
    "/task/{client_id}",
    summary="Get a task, waiting for one if asked to",
    response_model=TaskAnswer,
    responses={
        204: {
            "description": "Nothing to do now; ask again at a random moment of the window, or after Retry-After",
            "headers": {
                "Retry-After": {"description": "A moment in the window, in seconds.", "schema": {"type": "integer"}},
                RETRY_WINDOW: {
                    "description": "From and to, in seconds from now. Example: 1.5-4.5",
                    "schema": {"type": "string"},
                },
                REASON_HEADER: {
                    "description": "Why: waiting, gathering, quota_used, job_paused or job_finished (or stopped).",
                    "schema": {"type": "string"},
                },
            },
        },
        **refusals(*RECORDS, *DISK, *BLOBS, *CLIENT, JobNotFound),
    },
)
async def get_task(
    request: Request,
    state: State,
    client_id: ClientName,
    key: Key,
    spoken: Spoken,
    job: OfJob = None,
    wait: Annotated[
        float,
        Query(
            ge=0,
            le=LONGEST_WAIT_SECONDS,
            allow_inf_nan=False,
            description="Seconds to wait for a task if there is none.",
        ),
    ] = 0.0,
    evaluate: Annotated[bool, Query(description="Whether tasks of kind `evaluate` are welcome")] = True,
    audit: Annotated[bool, Query(description="Whether tasks of kind `audit` are welcome")] = False,
) -> Response:
    """Return the client's live lease, or a new one. Asking again while holding one returns the same.

    A request without the protocol header comes from a client of the first API: it is given only
    training, and until the round's deadline, since it will send no heartbeats.
    """
    owner = await anyio.to_thread.run_sync(_sign_in, request, state.coordinator, key, client_id)
    modern = spoken is not None
    look = partial(
        state.coordinator.tasks.next_task,
        owner,
        job=job,
        heartbeats=modern,
        evaluates=modern and evaluate,
        audits=modern and audit,
    )
    found = await _ask_until(request, state, owner, look, wait=wait)
    if isinstance(found, NothingToDo):
        return Response(status_code=204, headers=_headers_of(found))
    concerns(job=found.job.name, round_id=found.round.round_id, task_id=found.task.task_id)
    control = await anyio.to_thread.run_sync(state.coordinator.controls.digest, found)
    answer = _task_answer(state.coordinator, found, control)
    return JSONResponse(answer.model_dump(mode="json"), headers={"Cache-Control": "no-store"})


async def _ask_until(
    request: Request,
    state: ServerState,
    owner: ClientId,
    look: Callable[[], Assignment | NothingToDo],
    *,
    wait: float,
) -> Assignment | NothingToDo:
    give_up_at = anyio.current_time() + wait
    while True:
        announced = state.news.waiting_room.announced()
        async with state.asking:
            if state.news.closing:  # the server stops: of hundreds who wait, nobody looks once more
                return state.coordinator.tasks.nothing_yet(owner)
            found = await anyio.to_thread.run_sync(look)
        if isinstance(found, Assignment) or found.reason == JOB_FINISHED:
            return found  # a job that is finished is nothing to wait for
        if anyio.current_time() >= give_up_at or state.news.closing:
            return found
        with state.news.waiting_room.place(announced) as called:
            while not called.done() and (left := give_up_at - anyio.current_time()) > 0:
                await asyncio.wait([called], timeout=min(left, SIGN_OF_LIFE_SECONDS))
                if await request.is_disconnected():
                    return found  # nobody is there to take a lease
                state.coordinator.presence.note(owner)


def _headers_of(nothing: NothingToDo) -> dict[str, str]:
    return {
        "Retry-After": str(math.ceil(nothing.retry_after_seconds)),
        RETRY_WINDOW: write_retry_window(nothing.window.start_seconds, nothing.window.end_seconds),
        REASON_HEADER: nothing.reason,
    }


def _sign_in(request: Request, core: Coordinator, key: str | None, client_id: str) -> ClientId:
    return welcome(request, core, core.auth.require_client(key, client_id))


def _task_answer(core: Coordinator, found: Assignment, control: Digest | None) -> TaskAnswer:
    task, round_, version = found.task, found.round, format_version(found.version.version)
    limits, now = core.limits.of(found.job, round_.round_id), core.clock.now()
    described = {
        "train": f"Train local model for round {round_.round_id}",
        "evaluate": f"Evaluate model {version} of round {round_.round_id} on local data",
        "audit": f"Look at an update of round {round_.round_id} on local data",
    }
    return TaskAnswer(
        round_id=round_.round_id,
        model_version=version,
        task=task.kind.value,
        description=described[task.kind],
        task_id=task.task_id,
        job=found.job.name,
        model_digest=found.version.digest,
        deadline=task.deadline,
        seconds_left=max(0.0, task.deadline - now),
        soft_seconds_left=_until(task.soft_deadline, now),
        hard_seconds_left=_until(round_.deadline if task.kind.value == "train" else None, now),
        heartbeat_seconds=core.settings.heartbeat_seconds,
        recipe=recipe_of(
            found.job,
            task,
            round_number=round_.number,
            max_norm=limits.max_norm,
            max_num_samples=limits.max_num_samples,
        ),
        target_updates=round_.target_updates,
        min_updates=round_.min_updates,
        auditors=spec_of(found.job).audits.auditors,
        audited_digest=found.audited,
        control_digest=control,
    )


def _until(moment: float | None, now: float) -> float | None:
    return None if moment is None else max(0.0, moment - now)


@router.post(
    "/tasks/{task_id}/heartbeat",
    summary="Keep a lease alive",
    responses=refusals(*RECORDS, *DISK, *CLIENT, *BODY, TaskNotFound),
    openapi_extra=takes_json(HeartbeatRequest),
)
def heartbeat(
    core: Core,
    client_id: SignedIn,
    task_id: TaskName,
    body: Annotated[HeartbeatRequest, Depends(json_body(HeartbeatRequest))],
) -> HeartbeatAnswer:
    """Extend the lease. `abort` as action says that the work has become useless, `reason` why."""
    task = core.tasks.heartbeat(client_id, TaskId(task_id), progress=body.progress)
    concerns(round_id=task.round_id)
    ending = None if task.state == "leased" else why_over(core.store, task)
    return HeartbeatAnswer(
        task_id=task.task_id,
        action="continue" if ending is None else "abort",
        reason=None if ending is None else ending.reason,
        deadline=task.deadline,
        seconds_left=max(0.0, task.deadline - core.clock.now()) if ending is None else 0.0,
        code=None if ending is None else ending.code,
    )


@router.post(
    "/tasks/{task_id}/evaluation",
    summary="Report how good a model is on local data",
    responses=refusals(*RECORDS, *DISK, *CLIENT, *BODY, TaskNotFound, LeaseExpired),
    openapi_extra=takes_json(EvaluationRequest),
)
def evaluation(
    core: Core,
    client_id: SignedIn,
    task_id: TaskName,
    body: Annotated[EvaluationRequest, Depends(json_body(EvaluationRequest))],
) -> TaskDone:
    """Record a measurement. Sending it again changes nothing: the first one stands."""
    task = core.evaluations.record(
        client_id, TaskId(task_id), num_samples=body.num_samples, loss=body.loss, accuracy=body.accuracy
    )
    concerns(round_id=task.round_id)
    version = format_version(task.base_version)
    return TaskDone(success=True, message=f"Evaluation of {version} by {client_id} recorded", task_id=task.task_id)


@router.get(
    "/tasks/{task_id}/audited",
    summary="Get the update that an audit task is about",
    response_class=Response,
    responses={
        200: {"content": {SAFETENSORS: {"schema": binary()}, SAFETENSORS_ZSTD: {"schema": binary()}}},
        **refusals(*RECORDS, *BLOBS, *CLIENT, TaskNotFound, LeaseExpired),
    },
)
def audited(core: Core, client_id: SignedIn, task_id: TaskName) -> Response:
    """Return the update as it was sent, to the auditor that holds the task. Whose it is, is not told."""
    update = core.audits.audited_update(client_id, TaskId(task_id))
    kind = SAFETENSORS_ZSTD if update.compression == "zstd" else SAFETENSORS
    headers = {"Cache-Control": "no-store", "Repr-Digest": format_content_digest(update.digest)}
    return Response(core.blobs.get(update.digest), headers=headers, media_type=kind)


@router.get(
    "/tasks/{task_id}/control",
    summary="Get the control variate that a training goes with",
    response_class=Response,
    responses={
        200: {"content": {SAFETENSORS: {"schema": binary()}}},
        **refusals(*RECORDS, *BLOBS, *CLIENT, TaskNotFound, LeaseExpired),
    },
)
def control(core: Core, client_id: SignedIn, task_id: TaskName) -> Response:
    """Return it in the form of a model file, to the client that holds the task.

    There is none as long as it is zero, and in jobs without control variates.
    """
    body = core.controls.file(client_id, TaskId(task_id))
    headers = {"Cache-Control": "no-store", "Repr-Digest": format_content_digest(sha256_hex(body))}
    return Response(body, headers=headers, media_type=SAFETENSORS)


@router.post(
    "/tasks/{task_id}/audit",
    summary="Report what an update does to a model on local data",
    responses=refusals(*RECORDS, *DISK, *CLIENT, *BODY, TaskNotFound, LeaseExpired),
    openapi_extra=takes_json(AuditRequest),
)
def audit(
    core: Core,
    client_id: SignedIn,
    task_id: TaskName,
    body: Annotated[AuditRequest, Depends(json_body(AuditRequest))],
) -> TaskDone:
    """Record a measurement. Sending it again changes nothing: the first one stands."""
    task = core.audits.record(
        client_id, TaskId(task_id), num_samples=body.num_samples, base_loss=body.base_loss, loss=body.loss
    )
    concerns(round_id=task.round_id)
    return TaskDone(success=True, message=f"Audit by {client_id} recorded", task_id=task.task_id)


@router.delete(
    "/tasks/{task_id}",
    summary="Give a lease back",
    responses=refusals(*RECORDS, *DISK, *CLIENT, TaskNotFound, LeaseExpired),
)
def release(state: State, client_id: SignedIn, task_id: TaskName) -> TaskDone:
    """End the lease at the client's own wish, so that another client can have its place. May be repeated.

    What has arrived of the task's update is forgotten.
    """
    task = state.coordinator.tasks.release(client_id, TaskId(task_id))
    concerns(round_id=task.round_id)
    state.uploads.abandon(task.task_id)
    return TaskDone(success=True, message=f"Task {task.task_id} was given back", task_id=task.task_id)
