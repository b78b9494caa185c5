"""A volunteer's machine without a trainer: it asks, sends marked updates, and remembers what it was told."""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from fed_compute.protocol.digests import sha256_hex
from tests.fault.simulated import calls
from tests.fault.simulated.exchange import Answer, Request
from tests.fault.simulated.marks import NUM_SAMPLES, Marks

TOO_LATE = ("round_over", "lease_expired", "update_too_stale")
NOT_NOW = (
    "body_stalled",
    "body_too_slow",
    "buffer_busy",
    "digest_mismatch",
    "too_many_uploads",
    "upload_busy",
    "upload_offset_mismatch",
    "uploads_full",
)
"""What a request may meet that came twice, in pieces, slowly, or damaged on the way. The same again settles it."""


class Intent(StrEnum):
    """What a volunteer wants of a request."""

    REGISTER = "register"
    ASK = "ask for a task"
    READ = "read a model"
    BEAT = "heartbeat"
    RESUME = "ask how much has come"
    SEND = "send an update"
    EVALUATE = "report an evaluation"
    RELEASE = "give a lease back"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """An update for which a 2xx came."""

    update_id: int
    digest: str
    task_id: str
    place: int
    body: bytes


@dataclass(slots=True)
class Lease:
    """A task in hand. `busy_until` is monotonic time; `offset` is how much of the body is known to have come."""

    document: dict[str, Any]
    place: int
    busy_until: float
    is_read: bool = False
    offset: int = 0
    attempts: int = 0

    @property
    def task_id(self) -> str:
        """The id of the task."""
        return str(self.document["task_id"])


@dataclass(slots=True)
class Volunteer:
    """One client. `next` says what it does now; `hear` takes what came of that, None if nothing came."""

    name: str
    marks: Marks
    chance: random.Random
    is_modern: bool = True
    """Whether it speaks the binary protocol; the first clients spoke JSON."""
    key: str = ""
    life: int = 0
    lease: Lease | None = None
    acknowledged: dict[int, Acknowledged] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    """Digest by version of every model that was read."""
    unexpected: list[str] = field(default_factory=list)
    """Answers that nothing explains."""

    def next(self, now: float) -> tuple[Intent, Request]:
        """Return what it wants now, and the request for it."""
        lease = self.lease
        if not self.key:
            return Intent.REGISTER, calls.register(self.name)
        if lease is None:
            return Intent.ASK, calls.ask(self.name, self.key, is_modern=self.is_modern)
        if lease.document["task"] == "evaluate":
            return Intent.EVALUATE, calls.evaluate(lease.task_id, self.key)
        if not lease.is_read:
            return Intent.READ, calls.get_model(lease.document["model_version"])
        if now < lease.busy_until and self.is_modern:
            return Intent.BEAT, calls.heartbeat(lease.task_id, self.key, 0.5)
        if self.chance.random() < 0.03:
            return Intent.RELEASE, calls.release(lease.task_id, self.key)
        if self.is_modern and lease.attempts and lease.offset == 0 and self.chance.random() < 0.5:
            return Intent.RESUME, calls.ask_offset(lease.task_id, self.key)
        lease.attempts += 1
        return Intent.SEND, self.update()

    def update(self) -> Request:
        """Return the request that sends the update of the lease in hand, or the rest of it."""
        assert self.lease is not None
        task_id, round_id, place = self.lease.task_id, self.lease.document["round_id"], self.lease.place
        if not self.is_modern:
            return calls.post_update(self.name, self.key, round_id, self.marks.json_delta(place), NUM_SAMPLES)
        body = self.marks.body(place)
        if self.lease.offset:
            return calls.send_rest(task_id, self.key, body, offset=self.lease.offset)
        return calls.put_update(task_id, self.key, body, self.marks.compression)

    @property
    def is_in_doubt(self) -> bool:
        """Whether it has sent an update and does not know what became of it."""
        return self.lease is not None and self.lease.attempts > 0

    def start_again(self) -> None:
        """Forget everything but name and key, as a machine that starts again; no answer reaches it any more."""
        self.life += 1
        self.lease = None

    def hear(self, intent: Intent, answer: Answer | None, now: float) -> float:
        """Take in what came of a request; return the seconds until the next one."""
        if answer is None or answer.status >= 500 or answer.code in NOT_NOW:
            if self.lease is not None:
                self.lease.offset = 0
            return self.chance.uniform(0.1, 3)
        if answer.code == "client_banned":
            return self.chance.uniform(5, 30)
        if answer.code in TOO_LATE and intent in (Intent.SEND, Intent.EVALUATE, Intent.RELEASE):
            self.lease = None
        elif answer.status >= 400 and not (intent is Intent.REGISTER and answer.code == "client_name_taken"):
            self.unexpected.append(f"{self.name} wants to {intent} and hears {answer.status} {answer.code}")
            self.lease = None
        else:
            return self._go_on(intent, answer, now)
        return self.chance.uniform(0.1, 2)

    def _go_on(self, intent: Intent, answer: Answer, now: float) -> float:
        """Take in a good answer."""
        lease, found = self.lease, answer.document
        match intent:
            case Intent.REGISTER if answer.status == 409:  # the answer to an earlier try was lost, the name is taken
                self.name += "x"
            case Intent.REGISTER:
                self.key = found["api_key"]
            case Intent.ASK if answer.status == 204:
                return self.chance.uniform(1, 6) * float(answer.headers["retry-after"])
            case Intent.ASK:
                self.lease = self._leased(found, now)
            case Intent.EVALUATE | Intent.RELEASE:
                self.lease = None
            case Intent.SEND:
                self._note_acknowledged(found)
                self.lease = None
            case Intent.BEAT if found["action"] == "abort":
                self.lease = None
            case Intent.BEAT:
                return self.chance.uniform(5, 12)
            case Intent.READ if lease is not None:
                self.models[lease.document["model_version"]] = sha256_hex(answer.body)
                lease.is_read = True
            case Intent.RESUME if lease is not None and answer.headers["upload-complete"] == "?0":
                lease.offset = int(answer.headers["upload-offset"])
        return self.chance.uniform(0.1, 2)

    def _leased(self, document: dict[str, Any], now: float) -> Lease:
        """Begin to work. Most are quick, some take longer than any lease lasts."""
        # The first API names only the round, so what a client sends twice in one round must be the same.
        place = self.marks.place(f"{self.name} in round {document['round_id']}")
        seconds = self.chance.expovariate(1 / 8) * (30 if self.chance.random() < 0.05 else 1)
        return Lease(document, place, now + seconds)

    def _note_acknowledged(self, document: dict[str, Any]) -> None:
        assert self.lease is not None
        place = self.lease.place
        body = self.marks.body(place) if self.is_modern else b""
        got = Acknowledged(document["update_id"], document["digest"], document["task_id"], place, body)
        before = self.acknowledged.setdefault(got.update_id, got)
        if before != got:
            self.unexpected.append(f"update {got.update_id} was acknowledged as {before} and as {got}")
