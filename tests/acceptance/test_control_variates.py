"""SCAFFOLD over real HTTP: two clients with unlike data, each with control variates of its own."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np

from fed_compute.client.client import Client
from fed_compute.client.config import load_settings
from fed_compute.client.sealed_files import read_sealed
from fed_compute.client.trainer import set_threads
from fed_compute.client.wiring import build_client
from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.conftest import Serve, Served, problem
from tests.unit.client.volunteer import Watcher

ROUNDS = 3
JOB = f"""
[training]
lr = 0.05
local_epochs = 2
report_steps = true
control_variates = 0.9
[rounds]
total = {ROUNDS + 1}
target_updates = 2
min_updates = 2
over_selection = 2
deadline_seconds = 600
[aggregation]
weighting = "equal"
[evaluation]
every_rounds = 0
"""
CLIENTS = ("anna", "bob")


def play_rounds(server: Served, folder: Path) -> None:
    """Let both clients train `ROUNDS` times."""
    set_threads(1)
    stop = threading.Event()
    with ExitStack() as undo, ThreadPoolExecutor() as pool:
        clients: list[Client] = []
        for part, name in enumerate(CLIENTS, start=1):
            settings = load_settings(
                coordinator_url=server.url, client_name=name, client_state_dir=folder / name, client_device="cpu",
                client_data=f"digits,part={part}/9", sleep_between_rounds=0, retry_delay=0.05,
            )  # fmt: skip
            clients.append(undo.enter_context(closing(build_client(settings, Watcher(), stop=stop))))
        try:
            done = [pool.submit(client.run, max_tasks=ROUNDS, stop=stop) for client in clients]
            assert [one.result(60) for one in done] == [ROUNDS, ROUNDS]
        finally:
            stop.set()


def own_controls(folder: Path) -> list[np.ndarray]:
    """Return what each client keeps."""
    found = [next((folder / name).glob("clients/*/controls/default")) for name in CLIENTS]
    return [np.frombuffer(read_sealed(file).parts[0], dtype="<f4") for file in found]


def test_clients_and_coordinator_agree_on_the_control_variates(serve_job: Serve, tmp_path: Path) -> None:
    """With equal weights and everybody in every round, c is near the mean of what the clients keep."""
    server = serve_job(JOB)
    stranger = server.join("stranger")
    first = stranger.task()
    assert "control_digest" not in first, "it is still zero"
    problem(stranger.http.get(f"/tasks/{first['task_id']}/control"), 404, "task_not_found")
    assert stranger.http.delete(f"/tasks/{first['task_id']}").status_code == 200

    play_rounds(server, tmp_path)

    answer = stranger.get_task(wait=20)
    assert answer.status_code == 200
    task = answer.json()
    assert task["model_version"] == f"v{ROUNDS + 1}"
    path = f"/tasks/{task['task_id']}/control"
    answer = stranger.http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, SAFETENSORS)
    assert sha256_hex(answer.content) == task["control_digest"]
    assert answer.headers["repr-digest"] == format_content_digest(task["control_digest"])
    problem(server.join("other").http.get(path), 404, "task_not_found")
    problem(server.http.get(path), 401, "authentication_failed")

    own = own_controls(tmp_path)
    control = np.frombuffer(answer.content[-own[0].nbytes :], dtype="<f4")
    assert np.linalg.norm(own[0] - own[1]) > 0.2 * np.linalg.norm(control), "their data are unlike"
    np.testing.assert_allclose(control, np.mean(own, axis=0), atol=1e-5)
    assert verify_data_dir(server.data_dir).breaches == ()
