"""A line between clients and coordinator that is slow, breaks, or falls silent.

The faults are those of Toxiproxy (https://github.com/Shopify/toxiproxy), and one of ours: the reply
that is lost after the coordinator has committed.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

PIECE_BYTES = 64 << 10
RESET = struct.pack("ii", 1, 0)
"""`SO_LINGER` on, zero seconds: closing sends RST instead of FIN."""

Pieces = AsyncIterator[bytes]
Pipe = Callable[[Pieces], Pieces]


class Cut(Exception):
    """The connection ends here, as if a side had closed it."""


class Reset(Exception):
    """The connection ends here by RST, which also throws away what is under way."""


class Hush(Exception):
    """Nothing more comes on this connection, and nobody is told."""


class Line:
    """What one connection does to what it carries: up to the coordinator, and down again. This one does nothing."""

    def __init__(self, rng: random.Random, struck: Counter[type["Line"]]) -> None:
        self.rng = rng
        self._struck = struck

    def strike(self) -> None:
        """Note that harm is done."""
        self._struck[type(self)] += 1

    async def up(self, pieces: Pieces) -> Pieces:
        """Carry pieces from the client to the coordinator."""
        async for piece in pieces:
            yield piece

    async def down(self, pieces: Pieces) -> Pieces:
        """Carry pieces from the coordinator to the client."""
        async for piece in pieces:
            yield piece


class Latency(Line):
    """Each burst takes 1 s ± 0.5 s longer, each way."""

    async def up(self, pieces: Pieces) -> Pieces:
        idle_since = float("-inf")
        async for piece in pieces:
            now = asyncio.get_running_loop().time()
            if now - idle_since > 0.05:
                self.strike()
                await asyncio.sleep(self.rng.uniform(0.5, 1.5))
            yield piece
            idle_since = asyncio.get_running_loop().time()

    down = up


class Bandwidth(Line):
    """50 KB a second each way."""

    async def up(self, pieces: Pieces) -> Pieces:
        async for piece in pieces:
            self.strike()
            for small in _slices(piece, 5_000):
                await asyncio.sleep(len(small) / 50_000)
                yield small

    down = up


class Slicer(Line):
    """Pieces of 1 to 100 bytes for the first 20 kB of each burst, so that no boundary lies where it lay."""

    async def up(self, pieces: Pieces) -> Pieces:
        async for piece in pieces:
            self.strike()
            for small in _slices(piece[:20_000], self.rng.randint(1, 100)):
                await asyncio.sleep(0)
                yield small
            if piece[20_000:]:
                yield piece[20_000:]

    down = up


class _Ending(Line):
    """Ends a connection after so many bytes, by an exception that says how."""

    end: type[Exception] = Cut
    after_bytes = (1, 60_000)

    async def up(self, pieces: Pieces) -> Pieces:
        left = self.rng.randint(*self.after_bytes)
        async for piece in pieces:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                self.strike()
                raise self.end


class CutUp(_Ending):
    """The connection closes after some bytes from the client."""


class CutDown(Line):
    """The connection closes after some bytes from the coordinator."""

    async def down(self, pieces: Pieces) -> Pieces:
        left = self.rng.randint(1, 60_000)
        async for piece in pieces:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                self.strike()
                raise Cut


class ResetUp(_Ending):
    """The connection is reset in the middle of a request's body."""

    end = Reset


class HalfOpen(_Ending):
    """The connection falls silent in the middle of a request, and neither side hears of it."""

    end = Hush


class LostReply(Line):
    """The coordinator says `201 Created`, and the client never hears it."""

    async def down(self, pieces: Pieces) -> Pieces:
        async for piece in pieces:
            if piece.startswith(b"HTTP/1.1 201") and self.rng.random() < 0.7:
                self.strike()
                raise Cut
            yield piece


LINES: dict[str, type[Line]] = {
    "latency": Latency,
    "bandwidth": Bandwidth,
    "reset mid-body": ResetUp,
    "cut request": CutUp,
    "cut answer": CutDown,
    "slicer": Slicer,
    "half-open": HalfOpen,
    "lost reply": LostReply,
}


class Proxy:
    """Carries each connection to the coordinator over a new line of the present kind."""

    def __init__(self, upstream_port: int, rng: random.Random) -> None:
        self.url = ""
        self.struck: Counter[type[Line]] = Counter()
        """How often each kind of line has done its harm."""
        self._line: type[Line] = Line
        self._upstream_port = upstream_port
        self._rng = rng
        self._carrying: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = threading.Event()
        self._over = asyncio.Event()

    def change(self, line: type[Line]) -> None:
        """Use another kind of line from now on. Whoever is connected has to connect anew, but for the half-open."""
        self._line = line
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._hang_up)

    def stop(self) -> None:
        """End, with everything that is carried."""
        self._end.set()

    async def run(self, ready: threading.Event) -> None:
        """Listen on a free port until `stop` is called."""
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await asyncio.to_thread(self._end.wait)
        self._over.set()
        server.close()
        while self._carrying:
            self._hang_up()
            await asyncio.sleep(0)

    def _hang_up(self) -> None:
        for task in self._carrying:
            task.cancel()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = self._line(random.Random(self._rng.random()), self.struck)
        with contextlib.ExitStack() as ends:
            ends.callback(writer.close)
            try:
                up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
            except OSError:
                _reset(writer)
                return
            ends.callback(up_writer.close)
            try:
                await self._both_ways(_pump(reader, up_writer, line.up), _pump(up_reader, writer, line.down))
            except Reset:
                _reset(writer)
                _reset(up_writer)
            except Hush:
                await self._over.wait()

    async def _both_ways(self, *pumps: Coroutine[Any, Any, None]) -> None:
        """Pump until one way ends, or `change` is called; raise what the line says of the end."""
        ways = {asyncio.create_task(pump) for pump in pumps}
        self._carrying |= ways
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._carrying -= ways
            for way in ways:
                way.cancel()
        for way in done:
            if not way.cancelled() and (error := way.exception()) is not None and not isinstance(error, Cut):
                raise error


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pipe: Pipe) -> None:
    async def pieces() -> Pieces:
        while piece := await reader.read(PIECE_BYTES):
            yield piece

    with contextlib.suppress(OSError):
        async for piece in pipe(pieces()):
            writer.write(piece)
            await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


def _slices(piece: bytes, size: int) -> Iterator[bytes]:
    return (piece[start : start + size] for start in range(0, len(piece), size))


@contextmanager
def proxy(upstream_port: int, rng: random.Random) -> Iterator[Proxy]:
    """Carry connections to a port of this machine, on a thread, for as long as the block runs."""
    running, ready = Proxy(upstream_port, rng), threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(running.run(ready)), name="fault-proxy", daemon=True)
    thread.start()
    ready.wait()
    try:
        yield running
    finally:
        running.stop()
        thread.join()
