"""Real servers on free ports, spoken to over real HTTP."""

import hashlib
import json
import logging
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
import structlog

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.verify import verify
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.job import parse_job_text
from fed_compute.protocol.messages import SAFETENSORS
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import TaskKind
from fed_compute.server.logs import configure_logging
from fed_compute.server.serve import serve_in_background

TLS = ssl.create_default_context()
"""Made once: each client would read all certificates anew, though nothing here is encrypted."""

SMALL_JOB = """
[model]
name = "simple_mlp"
args = { input_dim = 3, hidden_dim = 2, output_dim = 2 }
[rounds]
total = 5
target_updates = 2
min_updates = 1
over_selection = 2
deadline_seconds = 600
"""
"""A small model; two updates close a round, four clients may work on it at once."""


@pytest.fixture(scope="package", autouse=True)
def server_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Let servers log as they do outside tests, into a file: what pytest captures must not be written by threads."""
    path, root = tmp_path_factory.mktemp("log") / "server.log", logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with path.open("w", buffering=1) as stream:
        configure_logging(stream=stream)
        yield path
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


@dataclass
class Member:
    """A registered client that speaks the binary protocol."""

    http: httpx2.Client
    client_id: str
    key: str

    def get_task(self, **query: Any) -> httpx2.Response:
        """Ask for a task."""
        return self.http.get(f"/task/{self.client_id}", params=query)

    def task(self) -> dict[str, Any]:
        """Ask for a task that must be there."""
        answer = self.get_task()
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def put(self, task: dict[str, Any], body: bytes, **headers: str) -> httpx2.Response:
        """Send a whole update."""
        given = {"Content-Type": SAFETENSORS, "Content-Digest": format_content_digest(sha256_hex(body)), **headers}
        return self.http.put(f"/tasks/{task['task_id']}/update", content=body, headers=given)


@dataclass
class Served:
    """A running server: its address, and the coordinator behind it for looking at the records."""

    url: str
    data_dir: Path
    operator_key: str
    coordinator: Coordinator
    http: httpx2.Client
    stop: Callable[[], None]
    _members: list[httpx2.Client] = field(default_factory=list)

    def join(self, name: str, *, modern: bool = True) -> Member:
        """Register a client; one that is not `modern` sends no protocol header, as the first API's clients."""
        answer = self.http.post("/client/register", json={"client_name": name})
        assert answer.status_code == 200, answer.text
        key = answer.json()["api_key"]
        headers = {"Authorization": f"Bearer {key}"} | ({"Fed-Compute-Protocol": "1"} if modern else {})
        self._members.append(httpx2.Client(base_url=self.url, headers=headers, timeout=40.0, verify=TLS))
        return Member(self._members[-1], name, key)

    def close(self) -> None:
        """Close the connections of all clients."""
        for http in (self.http, *self._members):
            http.close()

    def records_digest(self) -> str:
        """Return a hash over everything on record, but for what a refusal may add: journal lines and their readers."""
        with self.coordinator.store.snapshot() as records:
            jobs = records.jobs.all()
            facts = [
                jobs,
                [client.client_id for client in records.clients.all()],
                [records.rounds.of_job(job.job_id) for job in jobs],
                [records.versions.of_job(job.job_id) for job in jobs],
                list(records.updates.all()),
                [
                    records.tasks.of_round(round_.round_id, kind)
                    for job in jobs
                    for round_ in records.rounds.of_job(job.job_id)
                    for kind in TaskKind
                ],
            ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()


Serve = Callable[..., Served]


@pytest.fixture(scope="module")
def serve_job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Start servers that live until the module's tests are over: `serve_job(job_text, **settings)`."""
    with ExitStack() as undo:

        def start(job: str | None = SMALL_JOB, **settings: Any) -> Served:
            data_dir, running = tmp_path_factory.mktemp("coordinator"), ExitStack()
            quick = {"port": 0, "shutdown_seconds": 0.2, **settings}
            coordinator = open_coordinator(load_settings(data_dir=data_dir, **quick))
            undo.callback(coordinator.close)
            undo.callback(require_sound, coordinator)
            if job is not None:
                coordinator.jobs.create(parse_job_text(job))
            url = running.enter_context(serve_in_background(coordinator))
            undo.callback(running.close)
            key = coordinator.data_dir.operator_key.read_text().strip()
            http = httpx2.Client(base_url=url, timeout=40.0, verify=TLS)
            served = Served(url, data_dir, key, coordinator, http, stop=running.close)
            undo.callback(served.close)
            return served

        yield start


@pytest.fixture
def server(serve_job: Serve) -> Served:
    """Return a fresh server with one small job."""
    return serve_job()


def require_sound(coordinator: Coordinator) -> None:
    """Check every promise about the stored data, whatever the tests have done to the server."""
    assert verify(coordinator.store, coordinator.blobs).breaches == ()


def update_body(task: dict[str, Any], *, value: float = 0.5, num_samples: int = 10) -> bytes:
    """Return an update as the task's recipe wants it: every value is `value`, a few last bits off.

    Which bits depends on the task's seed, so that no two clients send the same values; real ones do not either.
    """
    recipe = task["recipe"]
    num_parameters = sum(int(np.prod(shape)) for _, shape in recipe["parameters"])
    steps = np.random.default_rng(recipe["seed"]).integers(0, 8, num_parameters)
    delta = (np.float32(value) + steps * np.spacing(np.float32(value))).astype("<f4")
    return encode_update(
        delta,
        encoding=recipe["encoding"],
        compression=recipe["compression"],
        topk_fraction=recipe["topk_fraction"],
        schema_digest=recipe["schema_digest"],
        num_samples=num_samples,
        loss=1.0,
        train_seconds=0.1,
        rng=np.random.default_rng(0),
    )


def problem(answer: httpx2.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem document of this status and code, and return it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = dict(answer.json())
    assert document["code"] == code, document
    assert document["status"] == status
    assert document["type"] == f"urn:fed-compute:error:{code}"
    assert isinstance(document["detail"], str)
    assert document["detail"]
    assert "Traceback" not in json.dumps(document)
    return document
