"""The journal as a live feed (server-sent events)."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import anyio
import anyio.to_thread
from fastapi import APIRouter, Header, Query
from sse_starlette import EventSourceResponse, ServerSentEvent

from fed_compute.coordinator.queries import entries_after, last_seq, seq_before
from fed_compute.coordinator.shown import NOT_FOR_STRANGERS, UNTOLD_FIELDS
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import JobNotFound
from fed_compute.server.dependencies import Core, OfJob, ServerState, State
from fed_compute.server.documentation import RECORDS, refusals

PING_SECONDS = 15
_BATCH = 500
_LOOK_AGAIN_SECONDS = 5.0

Seq = Annotated[int | None, Query(ge=0, le=2**53, description="Send what came after this number.")]
Since = Annotated[
    float | None, Query(ge=0, le=2**53, allow_inf_nan=False, description="Send what came from this Unix time on.")
]
Last = Annotated[int | None, Query(ge=0, le=10_000, description="Begin with so many of the newest.")]
Follow = Annotated[bool, Query(description="Whether to wait for more, once everything is sent.")]
LastSeq = Annotated[
    int | None, Header(alias="Last-Event-ID", ge=0, le=2**53, description="What a browser sends for `after`.")
]

router = APIRouter(tags=["events"])


@router.get(
    "/events",
    summary="Follow what happens",
    response_class=EventSourceResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "One event for each line"},
        **refusals(*RECORDS, JobNotFound),
    },
)
async def events(
    state: State,
    core: Core,
    after: Seq = None,
    since: Since = None,
    last: Last = None,
    last_event_id: LastSeq = None,
    job: OfJob = None,
    follow: Follow = True,
) -> EventSourceResponse:
    """Send each line of the journal as it is written: `id` its number, `event` its kind, `data` a JSON object.

    Where to begin say `Last-Event-ID` (which a browser sends by itself when it reconnects), `after`, `since` or `last`;
    the first of them that is given counts. Without any only what is new is sent. `last` counts lines of all jobs, those
    for operators too. Secrets, task ids and model values are never part of it.
    """
    wanted = None if job is None else (await anyio.to_thread.run_sync(core.jobs.named, job)).job_id
    seq = last_event_id if last_event_id is not None else after
    if seq is None:
        seq = await anyio.to_thread.run_sync(_beginning, core, since, last)
    feed = _feed(state, seq, wanted, follow=follow)
    return EventSourceResponse(feed, ping=PING_SECONDS, headers={"Cache-Control": "no-store"})


def _beginning(core: Coordinator, since: float | None, last: int | None) -> int:
    """Return the number after which to begin."""
    if since is not None:
        return seq_before(core.store, since)
    return max(0, last_seq(core.store) - (last or 0))


async def _feed(state: ServerState, seq: int, job_id: int | None, *, follow: bool) -> AsyncIterator[ServerSentEvent]:
    with state.instruments.event_streams.track_inprogress():
        while not state.news.closing:
            news = state.news.anything()
            seq, batch, full = await anyio.to_thread.run_sync(_read, state.coordinator, seq, job_id)
            for event in batch:
                yield event
            if not full and not follow:
                return
            if not full:
                await state.news.wait(news, seconds=_LOOK_AGAIN_SECONDS)


def _read(core: Coordinator, seq: int, job_id: int | None) -> tuple[int, list[ServerSentEvent], bool]:
    """Return the last number that was read, the events to send, and whether there may be more at once."""
    entries = entries_after(core.store, seq, limit=_BATCH)
    names = {job.job_id: job.name for job in core.jobs.all()} if entries else {}
    batch = []
    for entry in entries:
        if entry.kind in NOT_FOR_STRANGERS or (job_id is not None and entry.job_id != job_id):
            continue
        told: dict[str, Any] = {
            "seq": entry.seq,
            "at": entry.at,
            "kind": entry.kind,
            "job": None if entry.job_id is None else names.get(entry.job_id),
            "round_id": entry.round_id,
            "client_id": entry.client_id,
            **{name: value for name, value in json.loads(entry.payload).items() if name not in UNTOLD_FIELDS},
        }
        batch.append(ServerSentEvent(json.dumps(told), event=entry.kind, id=str(entry.seq)))
    return (entries[-1].seq if entries else seq), batch, len(entries) == _BATCH
