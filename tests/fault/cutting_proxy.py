"""A TCP proxy in threads that cuts its connections after so many bytes towards the server."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

_READ_BYTES = 1 << 14


class CuttingProxy:
    """Forwards to a local port. While `cut_after` is not None, a connection ends when so many bytes went there."""

    def __init__(self, port: int, *, cut_after: int | None) -> None:
        self.cut_after = cut_after
        self.cuts = 0
        self.on_cut: Callable[[int], None] = lambda cuts: None
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """Where clients call it."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> "CuttingProxy":
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits for calls
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _start(self, work: Callable[..., None], *args: socket.socket) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._port), timeout=20)
            except OSError:
                near.close()  # nobody is at home
                continue
            self._start(self._there, near, far)
            self._start(self._back, near, far)

    def _there(self, near: socket.socket, far: socket.socket) -> None:
        left = self.cut_after
        with suppress(OSError):
            while piece := near.recv(_READ_BYTES):
                piece = piece if left is None else piece[:left]
                far.sendall(piece)
                if left is not None and (left := left - len(piece)) <= 0:
                    self.cuts += 1
                    self.on_cut(self.cuts)
                    break
        _end(near, far)

    def _back(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while piece := far.recv(_READ_BYTES):
                near.sendall(piece)
        _end(near, far)


def _end(*ends: socket.socket) -> None:
    for end in ends:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
