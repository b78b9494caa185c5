"""The process around the application: its port, its signals, its end."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio.to_thread
import httpx2
import pytest

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.errors import Broken, PortInUse, SettingInvalid
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.job import default_job
from fed_compute.protocol.messages import SAFETENSORS
from fed_compute.server.serve import _Server, bind, serve, serve_in_background, url_of
from fed_compute.server.waiting_room import WaitingRoom

LONGEST_SECONDS = 40.0
BODY_BYTES = 14_500
"""As long as an update of the default job may be."""

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


def test_a_stopping_server_turns_unready_first_and_lets_waiting_clients_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits, seen, answers = threading.Event(), threading.Event(), []

    @contextmanager
    def noted_place(room: WaitingRoom, seen_news: int) -> Iterator[asyncio.Future[None]]:
        with place(room, seen_news) as called:
            waits.set()
            yield called

    async def until_seen(server: _Server) -> None:
        assert await anyio.to_thread.run_sync(seen.wait, LONGEST_SECONDS), "the server did not turn unready"

    def ask(url: str, key: str) -> None:
        query = {"api_key": key, "wait": "30"}
        answers.append(httpx2.get(f"{url}/task/idle", params=query, timeout=LONGEST_SECONDS).status_code)

    def look(url: str) -> None:
        while httpx2.get(f"{url}/readyz").status_code != 503:
            pass
        seen.set()

    place = WaitingRoom.place
    monkeypatch.setattr(WaitingRoom, "place", noted_place)
    monkeypatch.setattr(_Server, "notice", until_seen)
    coordinator = open_coordinator(load_settings(data_dir=tmp_path, port=0))
    with closing(coordinator), serve_in_background(coordinator) as url:
        key = httpx2.post(f"{url}/client/register", json={"client_name": "idle"}).json()["api_key"]
        threads = [threading.Thread(target=ask, args=(url, key)), threading.Thread(target=look, args=(url,))]
        for thread in threads:
            thread.start()
        assert waits.wait(LONGEST_SECONDS)
        assert answers == []
    for thread in threads:
        thread.join()
    assert seen.is_set()
    assert answers == [204]


def test_a_sender_that_stands_still_does_not_hold_up_the_end(tmp_path: Path) -> None:
    with served(tmp_path) as (process, url):
        key = httpx2.post(f"{url}/client/register", json={"client_name": "slow"}).json()["api_key"]
        task = httpx2.get(f"{url}/task/slow", params={"api_key": key}).json()["task_id"]
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as sender:
            head = f"PUT /tasks/{task}/update HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n"
            head += f"Content-Digest: {format_content_digest(sha256_hex(b''))}\r\nContent-Length: {BODY_BYTES}\r\n"
            head += f"Content-Type: {SAFETENSORS}\r\n"
            sender.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert sender.recv(100).startswith(b"HTTP/1.1 100")  # the server waits for the body
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=LONGEST_SECONDS)
    assert process.returncode == 0, errors
    assert output == "closed\n"


def test_a_server_that_cannot_start_says_so(tmp_path: Path) -> None:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path, port=0))
    with closing(coordinator):
        job = coordinator.jobs.create(default_job())
        coordinator.blobs.remove(coordinator.jobs.version(job, "latest").digest)
        with pytest.raises(Broken, match="did not start"):
            serve(coordinator)


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
