"""The wish to stop: heard at once, wherever the client waits and whoever asks."""

import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from fed_compute.client import stop_sign
from fed_compute.client.client import stop_on_signals
from fed_compute.client.config import load_settings
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.wiring import build_client
from tests.unit.client.volunteer import Watcher

A_DAY = 86_400.0


@pytest.fixture(autouse=True)
def _no_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that is not ended would last for a day, and the test with it."""
    monkeypatch.setattr(stop_sign, "_SLICE_SECONDS", A_DAY)


def test_everyone_who_waits_hears_of_it() -> None:
    sign, heard = StopSign(), []
    threads = [threading.Thread(target=lambda: heard.append(sign.wait(A_DAY)), daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    sign.set()
    for thread in threads:
        thread.join()
    assert heard == [True, True, True]
    assert sign.wait(A_DAY)  # it stays set


def test_without_it_a_wait_lasts_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop_sign, "_SLICE_SECONDS", 0.001)
    assert not StopSign().wait(0.01)
    assert not StopSign().wait(0.0)


@contextmanager
def interrupted_at(step: int, act: Callable[[], None]) -> Iterator[None]:
    """While the block runs, call `act` before the given bytecode of `StopSign.wait`, as a signal might."""
    steps = itertools.count(1)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        if event == "opcode" and next(steps) == step:
            act()
        return trace if frame.f_code is StopSign.wait.__code__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize("step", range(1, 80))
def test_a_signal_may_come_at_any_moment_of_a_wait(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `threading.Event` there are moments at which the client would hang for ever."""
    sign = StopSign()

    def ask() -> None:
        monkeypatch.setattr(stop_sign, "_SLICE_SECONDS", A_DAY)
        sign.set()

    monkeypatch.setattr(stop_sign, "_SLICE_SECONDS", 0.001)
    with interrupted_at(step, ask):
        assert sign.wait(10 * A_DAY)


class AskedWhenWaitedFor(StopSign):
    """As soon as somebody begins to wait for long, somebody else asks."""

    def __init__(self, ask: Callable[[], None]) -> None:
        super().__init__()
        self._ask = ask

    def wait(self, timeout: float) -> bool:
        if timeout > 10 and not self.is_set():
            threading.Thread(target=self._ask).start()
        return super().wait(timeout)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which every connection is refused."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


WAITS: list[dict[str, float]] = [
    {"retry_delay": A_DAY},
    {"retry_delay": A_DAY, "max_retries": 0},
    {"retry_delay": A_DAY, "client_coordinator_delay": A_DAY},
    {"client_startup_delay": A_DAY},
]


@pytest.mark.parametrize("waits", WAITS, ids=lambda waits: " ".join(waits))
@pytest.mark.parametrize("by_signal", [False, True])
def test_a_client_stops_at_once_whatever_it_waits_for(
    nobody: str, tmp_path: Path, waits: dict[str, Any], by_signal: bool
) -> None:
    """Before a retry of a call, before the next call, in a simulated delay: systemd would kill it after a while."""

    def ask() -> None:
        if by_signal:
            os.kill(os.getpid(), signal.SIGTERM)
        else:
            stop.set()

    stop, watcher = AskedWhenWaitedFor(ask), Watcher()
    settings = load_settings(coordinator_url=nobody, client_state_dir=tmp_path, client_device="cpu", **waits)
    with closing(build_client(settings, watcher, stop=stop)) as client, stop_on_signals(client, stop):
        assert client.run(stop=stop) == 0
    assert watcher.names()[-1] == "stopped"
