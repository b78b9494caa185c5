"""Tells pages that something has happened: a beat at most once a second, however much it was.

A page asks for its parts anew at each beat. With a hundred updates a second that is still one beat and one
request, where the journal's own feed (`/events`) would send a hundred events.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent

from fed_compute.server.dependencies import ServerState, State

BEAT_SECONDS = 1.0
PING_SECONDS = 15
LOOK_AGAIN_SECONDS = 5.0

router = APIRouter(include_in_schema=False)


@router.get("/ui/live")
async def live(state: State) -> EventSourceResponse:
    """Send an event without contents when the journal has grown, the first one at once."""
    return EventSourceResponse(_beats(state), ping=PING_SECONDS, headers={"Cache-Control": "no-store"})


async def _beats(state: ServerState) -> AsyncIterator[ServerSentEvent]:
    while not state.news.closing:
        news = state.news.anything()  # taken before the page looks: what comes while it does is told with the next
        yield ServerSentEvent("changed")
        await asyncio.sleep(BEAT_SECONDS)
        while not (news.is_set() or state.news.closing):
            await state.news.wait(news, seconds=LOOK_AGAIN_SECONDS)
