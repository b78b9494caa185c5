"""The server process: claims its port first, says where it listens, stops in order."""

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import anyio
import structlog
import uvicorn
from fastapi import FastAPI

from fed_compute.coordinator.wiring import Coordinator
from fed_compute.coordinator.worker import STOP_SECONDS
from fed_compute.errors import Broken, PortInUse, SettingInvalid
from fed_compute.protocol import tracing
from fed_compute.server.app import create_app
from fed_compute.server.connections import GuardedProtocol
from fed_compute.server.dependencies import ServerState
from fed_compute.server.logs import configure_logging

log = structlog.get_logger(__name__)

NOTICE_SECONDS = 0.5
"""How long the server still answers, `/readyz` with 503, between the signal and closing its port."""

DID_NOT_START = "the server did not start; its log says why"
KEEP_ALIVE_SECONDS = 75
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - shown, not bound


def serve(coordinator: Coordinator, *, on_ready: Callable[[str], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let open requests end and return.

    Host, port, log level and the longest time that the end may take come from the coordinator's
    settings. The caller opened the coordinator and closes it.

    Args:
        coordinator: open and not started.
        on_ready: called with the real URL when the port answers; port 0 takes a free one.

    Raises:
        PortInUse: if another program listens on the port.
        SettingInvalid: if the address cannot be listened on, or there is no such log level.
        ExtraMissing: if tracing is wanted and OpenTelemetry is not installed.
        Broken: if the server does not start.
    """
    configure_logging(coordinator.settings.log_level)
    listener = bind(coordinator.settings.host, coordinator.settings.port)
    traced = tracing.told_by("fed-compute-coordinator", wanted=coordinator.settings.tracing)
    with contextlib.closing(listener), traced:
        try:
            _Server(coordinator, listener, on_ready).run()
        except SystemExit as left:  # uvicorn's word for a start that failed
            raise Broken(DID_NOT_START) from left


@contextlib.contextmanager
def serve_in_background(coordinator: Coordinator) -> Iterator[str]:
    """Serve on a thread for as long as the block runs; the block gets the URL. Logging is left as it is.

    Raises:
        PortInUse, SettingInvalid: as `serve`.
        Broken: if the server does not start.
    """
    listener = bind(coordinator.settings.host, coordinator.settings.port)
    with contextlib.closing(listener):
        ready = threading.Event()
        server = _Server(coordinator, listener, lambda url: ready.set())
        thread = threading.Thread(target=server.run, name="server", daemon=True)
        thread.start()
        while not ready.wait(0.05):
            if not thread.is_alive():
                raise Broken(DID_NOT_START)
        try:
            yield url_of(listener)
        finally:
            server.should_exit = True
            thread.join()


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an address; port 0 takes a free one.

    Raises:
        PortInUse: if another program listens there.
        SettingInvalid: if there is no such address here, or the port may not be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(host=host, port=port) from error
        raise SettingInvalid(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    listener.setblocking(False)
    return listener


def url_of(listener: socket.socket) -> str:
    """Return the URL under which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = _WILDCARDS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Uvicorn that says when it is ready, turns unready before it stops, and leaves signals to its caller."""

    def __init__(
        self, coordinator: Coordinator, listener: socket.socket, on_ready: Callable[[str], None] | None
    ) -> None:
        app = create_app(coordinator)
        super().__init__(_config(app, coordinator.settings.shutdown_seconds))
        self._state: ServerState = app.state.server
        self._listener = listener
        self._on_ready = on_ready

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until `should_exit`."""
        super().run(sockets or [self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open for requests and say so."""
        await super().startup(sockets)
        if self.started:
            url = url_of(self._listener)
            log.info("listening", url=url)
            if self._on_ready is not None:
                self._on_ready(url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Turn unready, let those who wait go, then stop."""
        log.info("stopping", within_seconds=self._state.coordinator.settings.shutdown_seconds)
        self._state.news.close()
        await self.notice()
        await super().shutdown(sockets)
        log.info("stopped")

    async def notice(self) -> None:
        """Answer on for a while, so that whoever asks hears that this server is not ready any more."""
        await anyio.sleep(min(NOTICE_SECONDS, self._state.coordinator.settings.shutdown_seconds / 2))

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving. Unlike uvicorn's, nothing is raised again: the caller has work to do."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True  # asked twice
        self.should_exit = True


def _config(app: FastAPI, shutdown_seconds: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=GuardedProtocol,
        access_log=False,
        log_config=None,
        ws="none",
        lifespan="on",
        server_header=False,
        proxy_headers=False,  # it would believe any program on this machine; see server/networks.py
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, int(shutdown_seconds - NOTICE_SECONDS - 2 * STOP_SECONDS)),
    )
