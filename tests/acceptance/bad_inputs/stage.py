"""A server on which much has happened already, and an eye on everything that it keeps."""

import hashlib
import sqlite3
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fed_compute.protocol.updates import encode_update
from tests.acceptance.conftest import Member, Serve, Served, update_body

MODEL = '[model]\nname = "simple_mlp"\nargs = { input_dim = 3, hidden_dim = 2, output_dim = 2 }\n'
LARGE_MODEL = '[model]\nname = "linear"\nargs = { input_dim = 70_000, output_dim = 1 }\n'
OPEN_ROUND = "[rounds]\ntarget_updates = 50\nmin_updates = 50\nover_selection = 2\ndeadline_seconds = 86_400\n"
WIRES = {
    "default": "",
    "zstd": '[wire]\ncompression = "zstd"\n',
    "bf16": '[wire]\nencoding = "bf16"\n',
    "f16": '[wire]\nencoding = "f16"\n',
    "int8": '[wire]\nencoding = "int8"\n',
    "topk": '[wire]\nencoding = "topk"\ntopk_fraction = 0.2\n',
    "large": "",
}
"""Jobs with a round that collects, by name, and how their updates travel."""

ENDED = (
    MODEL + "[rounds]\ntotal = 1\ntarget_updates = 2\nmin_updates = 2\nover_selection = 2\ndeadline_seconds = 86_400\n"
)
LIMITS = "[privacy]\nmax_num_samples = 1_000\n"
COPIED = [0.25, -0.5, 0.75, *[0.125] * 17]
"""What another client has sent to the default job's round already."""


@dataclass(frozen=True)
class Holder:
    """A client that holds a live task."""

    client_id: str
    key: str
    task: dict[str, Any]

    @property
    def task_id(self) -> str:
        """The task's id."""
        return str(self.task["task_id"])

    @property
    def compressed(self) -> bool:
        """Whether its updates travel compressed."""
        return bool(self.task["recipe"]["compression"] == "zstd")

    def encode(self, delta: Any, **changed: Any) -> bytes:
        """Return an update of these values, as the task's recipe wants it but for what is changed."""
        recipe = self.task["recipe"]
        said: dict[str, Any] = {
            "encoding": recipe["encoding"],
            "compression": recipe["compression"],
            "topk_fraction": recipe["topk_fraction"],
            "schema_digest": recipe["schema_digest"],
            "num_samples": 10,
            "loss": 1.0,
            "train_seconds": 0.5,
            **changed,
        }
        return encode_update(np.asarray(delta, dtype="<f4"), rng=np.random.default_rng(0), **said)

    @property
    def num_parameters(self) -> int:
        """The number of values of an update."""
        return sum(int(np.prod(shape)) for _, shape in self.task["recipe"]["parameters"])


@dataclass
class Stage:
    """The server, who plays on it, and the ids by which cases name things."""

    served: Served
    holders: dict[str, Holder]
    names: dict[str, str]
    _records: sqlite3.Connection = field(init=False)

    def __post_init__(self) -> None:
        file = self.served.data_dir / "coordinator.sqlite3"
        self._records = sqlite3.connect(f"file:{file}?mode=ro", uri=True, check_same_thread=False)

    @property
    def address(self) -> tuple[str, int]:
        """Where the server listens."""
        parts = urlsplit(self.served.url)
        return str(parts.hostname), int(parts.port or 0)

    @property
    def key(self) -> str:
        """The key of the client that holds the default job's task."""
        return self.holders["default"].key

    def fill(self, text: str) -> str:
        """Put the stage's names into a text with braces."""
        for name, value in self.names.items():
            text = text.replace(f"{{{name}}}", value)
        return text

    def fingerprint(self) -> str:
        """Return a hash over everything on record but journal lines and their readers, and over all blobs."""
        facts = [
            self._records.execute(f"SELECT {columns} FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608
            for table, columns in _KEPT.items()
        ]
        return hashlib.sha256(repr([facts, sorted(self.served.coordinator.blobs.digests())]).encode()).hexdigest()

    def close(self) -> None:
        """Close the eye."""
        self._records.close()


_KEPT = {
    "jobs": "*",
    "clients": "client_id, registered_at",
    "api_keys": "key_id, secret_hmac, scope, client_id, revoked_at",
    "rounds": "round_id, state, started_at, deadline, closed_at, result_version",
    "tasks": "*",
    "updates": "*",
    "versions": "job_id, version, digest, chain",
    "evaluations": "*",
}
"""What a refusal must not change. When a client was seen, and who folds a round, is no record of anything."""


def set_up(serve_job: Serve) -> Stage:
    """Start a server with seven open rounds, one that has ended, and tasks in every state."""
    served = serve_job(
        None,
        updates_per_minute=10**6,
        requests_per_minute=10**6,
        failed_authentications_per_minute=10**6,
        heartbeat_seconds=3600.0,
        json_max_bytes=100_000,
    )
    operator = {"Authorization": f"Bearer {served.operator_key}", "Content-Type": "application/toml"}
    jobs = {name: (LARGE_MODEL if name == "large" else MODEL) + OPEN_ROUND + wire for name, wire in WIRES.items()}
    for name, text in {**jobs, "ended": ENDED}.items():
        answer = served.http.post("/jobs", content=f'name = "{name}"\n{text}{LIMITS}', headers=operator)
        assert answer.status_code == 201, answer.text
    names = {"operator": served.operator_key, **_reported(served), **_ended_round(served)}
    holders = {}
    for job in WIRES:
        member = served.join(f"holder-{job}")
        holders[job] = Holder(member.client_id, member.key, _task(member, job))
    other = served.join("other")
    mine = holders["default"]
    names |= {"key": mine.key, "task": mine.task_id, "client": mine.client_id, "round": str(mine.task["round_id"])}
    names |= {"others_key": other.key, "others_task": _task(other, "default")["task_id"]}
    return Stage(served, holders, names)


def _task(member: Member, job: str) -> dict[str, Any]:
    answer = member.get_task(job=job)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def _reported(served: Served) -> dict[str, str]:
    """Let a client report to the default job."""
    member = served.join("reporter")
    holder = Holder(member.client_id, member.key, _task(member, "default"))
    assert member.put(holder.task, holder.encode(COPIED)).status_code == 201
    return {"reported_task": holder.task_id, "reported_key": holder.key}


def _ended_round(served: Served) -> dict[str, str]:
    """Play a round to its end; return one task each that is late, released, and still to be evaluated."""
    early = [served.join(f"early-{number}") for number in (1, 2)]
    late, gone = served.join("late"), served.join("gone")
    tasks = {member.client_id: _task(member, "ended") for member in (*early, late, gone)}
    assert gone.http.delete(f"/tasks/{tasks['gone']['task_id']}").status_code == 200
    for member in early:
        task = tasks[member.client_id]
        assert member.put(task, update_body(task)).status_code == 201
    assert late.put(tasks["late"], update_body(tasks["late"])).status_code == 410  # once, so that it is on record
    assert gone.put(tasks["gone"], update_body(tasks["gone"])).status_code == 410
    round_id = tasks["late"]["round_id"]
    give_up_at = time.monotonic() + 20
    while served.http.get(f"/aggregate/{round_id}").status_code != 200:
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    judge = early[0]
    task = _task(judge, "ended")
    assert task["task"] == "evaluate"
    return {
        "ended_round": str(round_id),
        "late_task": tasks["late"]["task_id"],
        "late_key": late.key,
        "gone_task": tasks["gone"]["task_id"],
        "gone_key": gone.key,
        "judge_task": task["task_id"],
        "judge_key": judge.key,
    }
