"""The journal's news for requests that wait: one reader for the whole process, however many wait."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence

import anyio.to_thread
import structlog

from fed_compute.coordinator.openings import num_openings
from fed_compute.coordinator.queries import entries_after, last_seq
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import FedComputeError
from fed_compute.server.waiting_room import WaitingRoom

log = structlog.get_logger(__name__)

COALESCE_SECONDS = 0.05
LOOK_SECONDS = 1.0
"""The reader looks at least this often: another process may have committed."""

CALL_SECONDS = 0.25
"""As long as there is work and somebody who was not called for it, the reader looks this often."""
ANNOUNCE_SECONDS = 5.0
"""Time alone may bring work too: a new day's quota, a soft deadline. So everybody may be called this often."""
FEWEST_CALLED = 16
"""So many are called even for one piece of work: not everybody may take it."""

BRINGS_WORK = frozenset(
    {
        "job_created",
        "round_opened",
        "round_started",
        "version_published",
        "task_expired",
        "task_released",
        "task_cancelled",
        "audit_opened",
    }
)
"""The journal's kinds after which a client that had nothing to do may have something."""


class News:
    """Wakes waiting requests after commits. All methods but the listener run on the event loop.

    A waiter takes the event first, looks at the records, and then waits for the event: what is
    committed between the look and the wait has set the event already. Those who wait for work sit in
    the waiting room, from which no more are called than there is work for.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._store = coordinator.store
        self._clock = coordinator.clock
        self._waiting_room = WaitingRoom()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self._anything = asyncio.Event()
        self._closing = False
        self._store.on_commit(self._listen)

    @property
    def closing(self) -> bool:
        """Whether the server is about to stop; nobody should begin to wait."""
        return self._closing

    @property
    def waiting_room(self) -> WaitingRoom:
        """Where those wait who want work."""
        return self._waiting_room

    def anything(self) -> asyncio.Event:
        """Return the event that is set when the journal has grown."""
        return self._anything

    async def wait(self, event: asyncio.Event, *, seconds: float) -> None:
        """Return when the event is set, or after `seconds`."""
        if not self._closing:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(event.wait(), max(0.0, seconds))

    def close(self) -> None:
        """Let everybody who waits go on, now and from now on."""
        self._closing = True
        self._rung.set()
        self._wake()
        self._waiting_room.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read the journal in the background for as long as the block runs."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
        reader = asyncio.create_task(self._read(), name="journal-news")
        try:
            yield
        finally:
            self.close()
            with self._lock:
                self._loop = None
            await reader

    def _listen(self) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._rung.set)

    async def _read(self) -> None:
        seq, pause, announced_at = 0, LOOK_SECONDS, float("-inf")
        while not self._closing:
            try:
                kinds, seq = await anyio.to_thread.run_sync(self._news_after, seq)
                if kinds:
                    self._wake()
                if not BRINGS_WORK.isdisjoint(kinds) or anyio.current_time() - announced_at >= ANNOUNCE_SECONDS:
                    self._waiting_room.announce()
                    announced_at = anyio.current_time()
                pause = CALL_SECONDS if await self._call() else LOOK_SECONDS
            except FedComputeError as error:
                log.warning("news_delayed", code=error.code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._rung.wait(), pause)
            await asyncio.sleep(COALESCE_SECONDS)
            self._rung.clear()

    async def _call(self) -> bool:
        """Call those for whom there may be work. Say whether there is some left to call others for."""
        if not self._waiting_room.num_callable():
            return False
        openings = await anyio.to_thread.run_sync(self._num_openings)
        if openings:
            self._waiting_room.call(max(openings, FEWEST_CALLED))
        return openings > 0 and self._waiting_room.num_callable() > 0

    def _num_openings(self) -> int:
        return num_openings(self._store, now=self._clock.now())

    def _news_after(self, seq: int) -> tuple[Sequence[str], int]:
        """Return the kinds of what is new after `seq`, and its end. The first time that may be anything."""
        if seq == 0:
            newest = last_seq(self._store)
            return sorted(BRINGS_WORK) if newest else [], newest
        kinds: list[str] = []
        while entries := entries_after(self._store, seq, limit=1000):
            kinds += [entry.kind for entry in entries]
            seq = entries[-1].seq
        return kinds, seq

    def _wake(self) -> None:
        self._anything.set()
        self._anything = asyncio.Event()
