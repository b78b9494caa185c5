"""Volunteers with limits of their own, at a real coordinator."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from fed_compute.client.api import CoordinatorApi
from fed_compute.client.client import Client
from fed_compute.client.config import load_settings
from fed_compute.client.datasets import load_dataset
from fed_compute.client.departures import read_sent, sent_folder
from fed_compute.client.stop_sign import StopSign
from fed_compute.client.surroundings import Surroundings
from fed_compute.client.trainer import set_threads
from fed_compute.client.wiring import assemble, build_client
from fed_compute.clock import SystemClock
from fed_compute.errors import PolicyRefusal
from fed_compute.rounds.records import TaskKind, TaskState
from tests.acceptance.conftest import TLS, Serve, Served
from tests.unit.client.volunteer import Watcher

DIGITS = """
[rounds]
total = 2
target_updates = 1
min_updates = 1
[evaluation]
every_rounds = 1
"""


ClientOf = Callable[..., Client]


@pytest.fixture
def client_of() -> Iterator[ClientOf]:
    """Make clients of a server, `client_of(server, state_dir, **settings)`, and close them after the test."""
    set_threads(1)
    with ExitStack() as undo:

        def make(server: Served, state_dir: Path, **limits: Any) -> Client:
            settings = load_settings(
                coordinator_url=server.url, client_state_dir=state_dir, client_device="cpu",
                client_data="digits,part=1/9", sleep_between_rounds=0, retry_delay=0.05, **limits,
            )  # fmt: skip
            return undo.enter_context(closing(build_client(settings, Watcher(), stop=StopSign())))

        yield make


def test_a_task_says_with_how_many_its_update_will_be_averaged(server: Served) -> None:
    task = server.join("a").task()
    assert (task["target_updates"], task["min_updates"]) == (2, 1)


def test_a_client_that_wants_no_measurements_is_given_training_only(
    serve_job: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve_job(DIGITS)
    client_of(server, tmp_path / "a").run(max_tasks=1)
    member = server.join("b")
    assert member.get_task(evaluate="false", wait=20).json()["task"] == "train"
    assert server.join("c").task()["task"] == "evaluate"
    assert member.get_task(evaluate="perhaps").status_code == 422


def test_a_lease_that_a_limit_forbids_is_free_for_the_next_client_at_once(
    serve_job: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve_job(DIGITS)
    with pytest.raises(PolicyRefusal, match=r"as few as 1 updates, CLIENT_MIN_COHORT wants 2"):
        client_of(server, tmp_path / "wary", client_min_cohort=2).run(until_finished=True)
    with server.coordinator.store.snapshot() as records:
        (job,) = records.jobs.all()
        (round_,) = records.rounds.of_job(job.job_id)
        (task,) = records.tasks.of_round(round_.round_id, TaskKind.TRAIN)
        assert task.state is TaskState.RELEASED
    assert client_of(server, tmp_path / "easy", client_min_cohort=1).run(max_tasks=4) == 4
    assert [one.kind for one in read_sent(sent_folder(tmp_path / "wary")).departures] == ["registration"]


def test_what_a_coordinator_keeps_is_what_the_client_s_log_says(
    serve_job: Serve, client_of: ClientOf, tmp_path: Path
) -> None:
    server = serve_job(DIGITS)
    client = client_of(
        server, tmp_path, client_max_update_norm=0.05, client_share_sample_count="rounded", client_share_loss="hidden",
        client_share_machine="none",
    )  # fmt: skip
    assert client.run(max_tasks=2) == 2
    registration, *updates = read_sent(sent_folder(tmp_path)).departures
    assert set(registration.says) == {"client_name"}
    with server.coordinator.store.snapshot() as records:
        kept = list(records.updates.all())
        (known,) = records.clients.all()
    assert known.capabilities == "{}"
    assert [(one.digest, one.num_samples, one.loss) for one in kept] == [
        (one.sha256, one.says["num_samples"], None) for one in updates
    ]
    assert [one.num_samples for one in kept] == [128, 128]
    assert all(one.l2_norm <= 0.05 for one in kept)


def test_the_way_out_is_the_outbox_and_nothing_else(serve_job: Serve, tmp_path: Path) -> None:
    """Every body that reaches a real coordinator, but for heartbeats, has its line in the log."""
    server = serve_job(DIGITS)
    bodies: list[str] = []

    class Listening(httpx2.HTTPTransport):
        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            if request.method in ("POST", "PUT", "PATCH") and not request.url.path.endswith("/heartbeat"):
                bodies.append(request.url.path.rsplit("/", 1)[-1])
            return super().handle_request(request)

    api = CoordinatorApi(server.url, transport=Listening(verify=TLS))
    settings = load_settings(coordinator_url=server.url, client_state_dir=tmp_path, client_device="cpu")
    around = Surroundings(SystemClock(), Watcher(), np.random.Generator(np.random.PCG64(0)), sleep_between_rounds=0)
    with closing(assemble(settings, api, load_dataset("digits,part=1/9"), around)) as client:
        assert client.run(max_tasks=4) == 4
    names = {"registration": "register"}
    assert bodies == [names.get(one.kind, one.kind) for one in read_sent(sent_folder(tmp_path)).departures]
