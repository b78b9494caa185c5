"""Real clients and coordinators: what was trained is not trained again, what has arrived is not sent again."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from fed_compute.client.config import load_settings
from fed_compute.client.departures import read_sent, sent_folder
from fed_compute.client.own_folder import own_folders, waiting_files
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.trainer import set_threads
from fed_compute.client.wiring import build_client
from fed_compute.coordinator.verify import verify_data_dir
from tests.fault.client_process import client_process
from tests.fault.cutting_proxy import CuttingProxy
from tests.fault.server import Server
from tests.unit.client.volunteer import Watcher

JOB = """
name = "default"
[model]
name = "simple_mlp"
args = {{ input_dim = 64, hidden_dim = {hidden_dim}, output_dim = 10 }}
[training]
local_epochs = {local_epochs}
batch_size = 8
[rounds]
total = 1
target_updates = 1
min_updates = 1
deadline_seconds = 600
"""


def await_that(true: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until, f"waited in vain until {what}"
        time.sleep(0.02)


def events_in(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


@pytest.mark.timeout(150)
def test_an_upload_goes_through_a_line_that_breaks_every_100_kilobytes_and_a_coordinator_that_is_killed(
    tmp_path: Path,
) -> None:
    """What has arrived stays arrived, whoever dies; from the beginning it would never get through."""
    set_threads(1)
    server = Server(
        tmp_path, job=JOB.format(hidden_dim=512, local_epochs=1), environment={"FED_COMPUTE_HEARTBEAT_SECONDS": "2"}
    )
    server.start()

    def kill_once(cuts: int) -> None:
        if cuts == 6:
            server.kill()
            server.start()

    state_dir = tmp_path / "state"
    try:
        with CuttingProxy(server.port, cut_after=100_000) as proxy:
            proxy.on_cut = kill_once
            settings = load_settings(
                coordinator_url=proxy.url, client_state_dir=state_dir, client_device="cpu", client_name="cut",
                client_data="digits,part=1/9", client_upload_piece_megabytes=0.3, sleep_between_rounds=0,
                retry_delay=0.01, client_checkpoint_seconds=0,
            )  # fmt: skip
            with closing(build_client(settings, Watcher(), stop=StopSign())) as client:
                assert client.run(max_tasks=1) == 1
            update = next(one for one in read_sent(sent_folder(state_dir)).departures if one.kind == "update")
            assert update.num_bytes > 1_000_000, "no line held long enough for it"
            assert proxy.cuts >= update.num_bytes // 100_000
        (own,) = own_folders(state_dir)
        assert waiting_files(own.spool) == []
    finally:
        server.close()
    assert verify_data_dir(server.data_dir).breaches == ()


@pytest.mark.timeout(150)
def test_a_client_that_is_killed_while_it_trains_goes_on_with_its_lease_where_it_was(tmp_path: Path) -> None:
    server = Server(
        tmp_path, job=JOB.format(hidden_dim=32, local_epochs=8), environment={"FED_COMPUTE_HEARTBEAT_SECONDS": "30"}
    )
    server.start()
    state_dir, log = tmp_path / "me", tmp_path / "me.log"
    how = {"CLIENT_CHECKPOINT_SECONDS": "0", "CLIENT_THREADS": "1"}
    slowly = {**how, "CLIENT_SPEED_FACTOR": "50"}
    first: subprocess.Popen[bytes]
    try:
        with client_process(server, tmp_path, "me", "1/1", **slowly) as first:
            await_that(lambda: any(own.checkpoint.exists() for own in own_folders(state_dir)), "it trains")
            first.send_signal(signal.SIGKILL)
            first.wait()
        (own,) = own_folders(state_dir)
        with client_process(server, tmp_path, "me", "1/1", **how):
            await_that(lambda: server.closed_rounds() == 1, "its update is in")
            await_that(lambda: not waiting_files(own.spool), "it has heard the answer")
    finally:
        server.close()
    begun = [one["task_id"] for one in events_in(log) if one["event"] == "task_received"]
    assert len(begun) == 2
    assert len(set(begun)) == 1, "it goes on with the lease that it had"
    resumed = next(one for one in events_in(log) if one["event"] == "training_resumed")
    assert resumed["steps_done"] > 0
    assert verify_data_dir(server.data_dir).breaches == ()
