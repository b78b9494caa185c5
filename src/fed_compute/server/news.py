"""The journal's news for requests that wait: one reader for the whole process, however many wait."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence

import anyio.to_thread
import structlog

from fed_compute.coordinator.queries import entries_after, last_seq
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import FedComputeError

log = structlog.get_logger(__name__)

COALESCE_SECONDS = 0.05
LOOK_SECONDS = 1.0
"""The reader looks at least this often: another process may have committed."""

BRINGS_WORK = frozenset(
    {"job_created", "round_opened", "version_published", "task_expired", "task_released", "audit_opened"}
)
"""The journal's kinds after which a client that had nothing to do may have something."""


class News:
    """Wakes waiting requests after commits. All methods but the listener run on the event loop.

    A waiter takes the event first, looks at the records, and then waits for the event: what is
    committed between the look and the wait has set the event already.
    """

    def __init__(self, coordinator: Coordinator) -> None:
        self._store = coordinator.store
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung = asyncio.Event()
        self._work = asyncio.Event()
        self._anything = asyncio.Event()
        self._closing = False
        self._store.on_commit(self._listen)

    @property
    def closing(self) -> bool:
        """Whether the server is about to stop; nobody should begin to wait."""
        return self._closing

    def work(self) -> asyncio.Event:
        """Return the event that is set when there may be new work for clients."""
        return self._work

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
        self._wake(work=True)

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
        seq = 0
        while not self._closing:
            try:
                seq = await self._catch_up(seq)
            except FedComputeError as error:
                log.warning("news_delayed", code=error.code)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._rung.wait(), LOOK_SECONDS)
            await asyncio.sleep(COALESCE_SECONDS)
            self._rung.clear()

    async def _catch_up(self, seq: int) -> int:
        """Read what is new after `seq` and wake those it concerns. The first time, start at the end."""
        kinds, newest = await anyio.to_thread.run_sync(self._news_after, seq)
        if newest > seq:
            self._wake(work=not BRINGS_WORK.isdisjoint(kinds))
        return newest

    def _news_after(self, seq: int) -> tuple[Sequence[str], int]:
        if seq == 0:
            return sorted(BRINGS_WORK), last_seq(self._store)
        kinds: list[str] = []
        while entries := entries_after(self._store, seq, limit=1000):
            kinds += [entry.kind for entry in entries]
            seq = entries[-1].seq
        return kinds, seq

    def _wake(self, *, work: bool) -> None:
        self._anything.set()
        self._anything = asyncio.Event()
        if work:
            self._work.set()
            self._work = asyncio.Event()
