"""A coordinator on a test stand: real components, a clock that only the test moves, clients in a line each."""

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fed_compute.clock import ManualClock
from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.coordinator.verify import verify
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.ids import ClientId, Digest, JobId, RoundId
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.messages import UpdateRequest
from fed_compute.protocol.models import decode_model
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import Entry, Job, Round, Task, Update, Version

NUM_PARAMETERS = 3
MAX_JSON_BYTES = 1 << 20


def tiny_job(name: str = "default", *, sections: dict[str, Any] | None = None, **rounds: Any) -> JobSpec:
    """Return a job of three parameters: 2 updates close a round, 4 clients may work on it, nobody evaluates."""
    wanted = {"total": 9, "target_updates": 2, "min_updates": 1, "over_selection": 2, "deadline_seconds": 100, **rounds}
    model = {"name": "linear", "args": {"input_dim": 2, "output_dim": 1}}
    given = {"evaluation": {"every_rounds": 0}, **(sections or {})}
    return parse_job({"name": name, "model": model, "rounds": wanted, **given})


def body_for(assignment: Assignment, value: float = 0.1, *, samples: int = 10, loss: float | None = 0.5) -> bytes:
    """Return an update in which every parameter moves by `value`, as the assignment's client sends it."""
    return body_of(assignment, own_delta(assignment.task.client_id, value), samples=samples, loss=loss)


def own_delta(name: str, value: float) -> list[float]:
    """Return `value` for each parameter, in the last bits a client's own: no two real updates are the same."""
    steps = hashlib.sha256(name.encode()).digest()[:NUM_PARAMETERS]
    spacing = np.spacing(np.float32(value))
    return [float(np.float32(value) + (step % 8) * spacing) for step in steps]


def body_of(assignment: Assignment, delta: Sequence[float], *, samples: int = 10, loss: float | None = None) -> bytes:
    """Return an update of one value for each parameter, encoded as the job says."""
    wire = spec_of(assignment.job).wire
    return encode_update(
        np.array(delta, dtype=np.float32),
        encoding=wire.encoding,
        compression=wire.compression,
        topk_fraction=wire.topk_fraction,
        schema_digest=schema_of(assignment.job).digest(),
        num_samples=samples,
        loss=loss,
        train_seconds=None,
        rng=np.random.default_rng(0),
    )


def digest_of(body: bytes) -> Digest:
    """Return the name that a body gets as a blob."""
    return Digest(sha256_hex(body))


class Stand:
    """One coordinator. Its duties run only in `work`; `restart` ends it and opens its folder again."""

    def __init__(self, folder: Path, *, database_url: str | None = None, **settings: Any) -> None:
        self.clock = ManualClock()
        self.keys: dict[str, str] = {}
        self._settings = load_settings(data_dir=folder, database_url=database_url, **settings)
        self.core: Coordinator = open_coordinator(self._settings, clock=self.clock)

    # --- acts ---------------------------------------------------------------------------------

    def create(self, spec: JobSpec | None = None) -> Job:
        """Add a job, the tiny one without another word."""
        return self.core.jobs.create(spec or tiny_job())

    def join(self, *names: str) -> None:
        """Register clients."""
        for name in names:
            _, self.keys[name] = self.core.auth.register(name)

    def ask(self, name: str, **wishes: Any) -> Assignment | NothingToDo:
        """Ask for a task."""
        return self.core.tasks.next_task(ClientId(name), **wishes)

    def lease(self, name: str, **wishes: Any) -> Assignment:
        """Ask for a task that must be there."""
        found = self.ask(name, **wishes)
        assert isinstance(found, Assignment), found
        return found

    def send(self, name: str, assignment: Assignment, body: bytes) -> Accepted:
        """Send a body as the binary protocol does: asked first, then streamed to a file, then judged."""
        admission = self.core.pipeline.admit(self.keys[name], assignment.task.task_id)
        path = self.core.blobs.incoming(f"{assignment.task.task_id}.{secrets.token_hex(4)}")
        path.write_bytes(body)
        try:
            return self.core.pipeline.accept_file(admission, path, digest_of(body))
        finally:
            path.unlink(missing_ok=True)

    def send_json(self, name: str, round_id: int, delta: Any, **fields: Any) -> Accepted:
        """Send an update as the first API does."""
        request = UpdateRequest(client_id=name, round_id=round_id, weight_delta=delta, **fields)
        return self.core.pipeline.accept_json(self.keys[name], request, max_bytes=MAX_JSON_BYTES)

    def report(self, name: str, value: float = 0.1, *, samples: int = 10) -> Update:
        """Take a lease and answer it."""
        assignment = self.lease(name)
        return self.send(name, assignment, body_for(assignment, value, samples=samples)).update

    def work(self) -> None:
        """Run the duties until nothing is left to do."""
        while any([self.core.worker.run_once(), self.core.slow_worker.run_once()]):
            pass

    def restart(self, **settings: Any) -> None:
        """End the coordinator and open its data again, with other settings where some are named."""
        self.core.close()
        self._settings = self._settings.model_copy(update=settings)
        self.core = open_coordinator(self._settings, clock=self.clock)
        self.core.tasks.revive_leases()

    def close(self) -> None:
        """End the coordinator."""
        self.core.close()

    # --- what became of it --------------------------------------------------------------------

    def rounds(self, job_id: int = 1) -> list[Round]:
        """Return the rounds of a job, oldest first."""
        with self.core.store.snapshot() as records:
            return records.rounds.of_job(JobId(job_id))

    def round(self, round_id: int = 1) -> Round:
        """Return one round."""
        with self.core.store.snapshot() as records:
            return records.rounds.get(RoundId(round_id))

    def task(self, assignment: Assignment) -> Task:
        """Return the task of an assignment as it is now."""
        with self.core.store.snapshot() as records:
            return records.tasks.get(assignment.task.task_id)

    def updates(self, round_id: int = 1) -> list[Update]:
        """Return the accepted updates of a round in their sequence."""
        with self.core.store.snapshot() as records:
            return records.updates.of_round(RoundId(round_id))

    def versions(self, job_id: int = 1) -> list[Version]:
        """Return the versions of a job in order."""
        with self.core.store.snapshot() as records:
            return records.versions.of_job(JobId(job_id))

    def model(self, number: int, job_id: int = 1) -> list[float]:
        """Return the parameters of a version."""
        with self.core.store.snapshot() as records:
            job, version = records.jobs.get(JobId(job_id)), records.versions.get(JobId(job_id), number)
        return [float(value) for value in decode_model(self.core.models.get(version.digest), schema_of(job))]

    def journal(self, *kinds: str) -> list[Entry]:
        """Return the journal, or its entries of some kinds."""
        with self.core.store.snapshot() as records:
            return [entry for entry in records.journal.after(0) if not kinds or entry.kind in kinds]

    def blobs(self) -> set[str]:
        """Return the digests of all blobs."""
        return set(self.core.blobs.digests())

    def breaches(self) -> tuple[str, ...]:
        """Return what the checker of the invariants finds."""
        return verify(self.core.store, self.core.blobs).breaches
