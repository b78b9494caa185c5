"""The process around the application: its port, its signals, its end."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.errors import PortInUse, SettingInvalid
from fed_compute.server.serve import bind, serve, url_of

PROGRAM = """
import sys
from pathlib import Path
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.protocol.job import parse_job_text
from fed_compute.server.serve import serve

coordinator = open_coordinator(load_settings(data_dir=Path(sys.argv[1]), port=0, shutdown_seconds=5))
coordinator.jobs.create(parse_job_text("[rounds]\\ntotal=1\\ntarget_updates=1\\nmin_updates=1"))
serve(coordinator, on_ready=lambda url: sys.stdout.write(url + "\\n") and sys.stdout.flush())
coordinator.close()
sys.stdout.write("closed\\n")
"""


@contextmanager
def served(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server as a process of its own; give it and its URL."""
    command = [sys.executable, "-c", PROGRAM, str(data_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        try:
            assert url.startswith("http://127.0.0.1:"), process.stderr.read() if process.stderr else ""
            yield process, url
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path) as (process, url):
        assert httpx2.get(f"{url}/readyz").status_code == 200
        process.send_signal(number)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert output == "closed\n"
    assert [json.loads(line)["event"] for line in errors.splitlines()][-2:] == ["stopping", "stopped"]


def test_a_stopping_server_turns_unready_first_and_lets_waiting_clients_go(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        for name in ("busy", "idle"):
            key = httpx2.post(f"{url}/client/register", json={"client_name": name}).json()["api_key"]
            if name == "busy":
                httpx2.get(f"{url}/task/busy", params={"api_key": key})
        answers: list[int] = []

        def wait() -> None:
            query = {"api_key": key, "wait": "30"}
            answers.append(httpx2.get(f"{url}/task/idle", params=query, timeout=40.0).status_code)

        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)  # until the request waits
        assert answers == []
        process.send_signal(signal.SIGTERM)
        seen = set()
        while process.poll() is None and 503 not in seen:
            try:
                seen.add(httpx2.get(f"{url}/readyz").status_code)
            except httpx2.RequestError:
                break
        waiting.join()
        _, errors = process.communicate(timeout=20)
    assert 503 in seen
    assert answers == [204]
    assert process.returncode == 0
    assert "sk_" not in errors


def test_a_port_in_use_is_told_before_anything_starts(tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        coordinator = open_coordinator(load_settings(data_dir=tmp_path, port=port))
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use"):
            serve(coordinator)
        coordinator.close()


def test_an_address_that_is_not_here_is_told() -> None:
    with pytest.raises(SettingInvalid, match=r"cannot listen on 203\.0\.113\.1"):
        bind("203.0.113.1", 0)


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_announced_url_can_be_reached(host: str, shown: str) -> None:
    with bind(host, 0) as listener:
        url = url_of(listener)
        port = listener.getsockname()[1]
        assert url == f"http://{shown}:{port}"
        socket.create_connection((shown.strip("[]"), port), timeout=5).close()
