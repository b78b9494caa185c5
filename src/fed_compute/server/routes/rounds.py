"""Rounds: their result, their state, their timing."""

from dataclasses import asdict

import anyio
import anyio.to_thread
from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from fed_compute.coordinator.queries import RoundView, view_round
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import RoundNotClosed, RoundNotFound
from fed_compute.ids import RoundId, format_version
from fed_compute.protocol.messages import AggregateAnswer, RoundStatusAnswer
from fed_compute.server.answers import ArrivalAnswer, AsyncStatsAnswer
from fed_compute.server.dependencies import Core, Key, RoundNumber, ServerState, State
from fed_compute.server.documentation import BLOBS, DISK, RECORDS, STAFF, refusals
from fed_compute.server.routes.models import weights_as_json

RESULT_WAIT_SECONDS = 5.0
"""How long an operator who closes a round waits for its result."""

router = APIRouter(tags=["rounds"])


@router.get(
    "/aggregate/{round_id}",
    summary="Get a round's result; an operator may close the round early",
    response_model=AggregateAnswer,
    responses=refusals(*STAFF, *BLOBS, *DISK, RoundNotFound, RoundNotClosed),
)
async def aggregate(state: State, round_id: RoundNumber, key: Key) -> Response:
    """Return the result of a closed round, to anyone.

    A round that still collects is closed by this call if the key is an operator's and the round has
    its minimum of updates. Everybody else is told how far it is, with 409.
    """
    core = state.coordinator
    view = await anyio.to_thread.run_sync(view_round, core.store, round_id)
    if view.version is None and await anyio.to_thread.run_sync(_may_close, core, key):
        view = await _close(state, view)
    if view.version is None:
        raise _not_closed(view)
    return await anyio.to_thread.run_sync(_result, core, view)


def _may_close(core: Coordinator, key: str | None) -> bool:
    return key is not None and core.auth.authenticate(key).scope == "operator"


async def _close(state: ServerState, view: RoundView) -> RoundView:
    """Ask for the round's end and wait for its result."""
    core, round_id = state.coordinator, view.round.round_id
    if view.round.state in ("OPEN", "COLLECTING"):
        await anyio.to_thread.run_sync(core.rounds.request_close, round_id)
    give_up_at = anyio.current_time() + RESULT_WAIT_SECONDS
    while True:
        news = state.news.anything()
        view = await anyio.to_thread.run_sync(view_round, core.store, round_id)
        left = give_up_at - anyio.current_time()
        if view.round.state in ("CLOSED", "ABANDONED") or left <= 0 or state.news.closing:
            return view
        await state.news.wait(news, seconds=left)


def _not_closed(view: RoundView) -> RoundNotClosed:
    return RoundNotClosed(
        round_id=view.round.round_id,
        state=view.round.state,
        total_updates=len(view.updates),
        min_updates=view.round.min_updates,
    )


def _result(core: Coordinator, view: RoundView) -> Response:
    version, schema = view.version, schema_of(view.job)
    if version is None:
        raise _not_closed(view)
    small = schema.num_parameters <= core.settings.json_max_parameters
    answer = AggregateAnswer(
        round_id=view.round.round_id,
        model_version=format_version(version.version),
        status="aggregated",
        aggregated_model=weights_as_json(core, version.digest, schema) if small else None,
        num_updates=version.num_updates,
        job=view.job.name,
        model_digest=version.digest,
        num_samples=version.num_samples,
    )
    return JSONResponse(answer.model_dump())


@router.get("/status/{round_id}", summary="Get a round's state", responses=refusals(*RECORDS, RoundNotFound))
def status(core: Core, round_id: RoundNumber) -> RoundStatusAnswer:
    """Return who was given a task of the round, who has answered, and where the round stands."""
    view = view_round(core.store, round_id)
    round_ = view.round
    assigned = list(dict.fromkeys(task.client_id for task in view.tasks))
    received = [update.client_id for update in view.updates]
    return RoundStatusAnswer(
        round_id=round_.round_id,
        model_version=format_version(round_.base_version),
        state=round_.state,
        assigned_clients=[*assigned],
        updates_received=[*received],
        total_clients=len(assigned),
        total_updates=len(received),
        job=view.job.name,
        target_updates=round_.target_updates,
        min_updates=round_.min_updates,
        opened_at=round_.opened_at,
        deadline=round_.deadline,
        closed_at=round_.closed_at,
        result_version=None if round_.result_version is None else format_version(round_.result_version),
        reason=round_.reason,
    )


@router.get(
    "/async/round/{round_id}/stats", summary="Get a round's timing", responses=refusals(*RECORDS, RoundNotFound)
)
def async_stats(core: Core, round_id: RoundNumber) -> AsyncStatsAnswer:
    """Return how long updates took, who came too late, and what may close the round. Synchronous rounds too."""
    stats = core.async_rounds.stats(RoundId(round_id))
    round_, latencies = stats.round, [arrival.latency_seconds for arrival in stats.arrivals]
    return AsyncStatsAnswer(
        round_id=round_.round_id,
        job=view_round(core.store, round_id).job.name,
        mode=round_.mode,
        state=round_.state,
        min_updates=round_.min_updates,
        max_duration_seconds=round_.deadline_seconds,
        max_staleness=round_.max_staleness,
        started_at=round_.started_at,
        elapsed_seconds=stats.elapsed_seconds,
        updates_received=len(stats.arrivals),
        min_updates_reached=stats.min_updates_reached,
        max_duration_reached=stats.max_duration_reached,
        mean_latency_seconds=sum(latencies) / len(latencies) if latencies else None,
        arrivals=[ArrivalAnswer(**asdict(arrival)) for arrival in stats.arrivals],
        stragglers=[ArrivalAnswer(**asdict(arrival)) for arrival in stats.stragglers],
    )
