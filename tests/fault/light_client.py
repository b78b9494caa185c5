"""A client without torch: sends updates that are like no others over real HTTP, and remembers what it was told."""

import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import numpy as np

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import PROTOCOL_HEADER, SAFETENSORS
from fed_compute.protocol.updates import encode_update

PARTIAL_UPLOAD = "application/partial-upload"
PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 0.5
"""A client of a campaign comes back sooner than it is told to."""

SETTLED = frozenset({200, 201, 204})


@dataclass(frozen=True)
class Acknowledged:
    """What a 2xx promised: this update, of this task, with these bytes, is on disk."""

    update_id: int
    task_id: str
    digest: str


@dataclass
class Memory:
    """All that one client knows for certain."""

    acknowledged: list[Acknowledged] = field(default_factory=list)
    attempted: set[str] = field(default_factory=set)
    """The digest of every update that it began to send."""
    models: dict[int, str] = field(default_factory=dict)
    """Version → digest of what was downloaded."""
    answers: Counter[int] = field(default_factory=Counter)
    """How often each status came."""
    accept_seconds: list[float] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    """Answers that are wrong whatever happens to the coordinator or to the line."""


@dataclass
class LightClient:
    """Takes tasks and answers each with noise of its own, through any outage.

    Args:
        timeout_seconds: how long it waits for an answer before it asks again on a new connection.
        train_seconds: from and to; it sends heartbeats meanwhile.
        poll_seconds: how long its requests for a task wait at the coordinator.
        tolerated: statuses that are no surprise to it.
    """

    url: str
    name: str
    num_parameters: int
    timeout_seconds: float = 10.0
    train_seconds: tuple[float, float] = (0.0, 0.3)
    poll_seconds: float = 1.0
    tolerated: frozenset[int] = frozenset()
    memory: Memory = field(default_factory=Memory)
    stop: threading.Event = field(default_factory=threading.Event)
    _key: str = ""
    _version: int = 0

    def run(self) -> None:
        """Work until `stop` is set."""
        headers = {PROTOCOL_HEADER: "1"}
        with httpx2.Client(base_url=self.url, timeout=self.timeout_seconds, headers=headers) as http:
            while not self.stop.is_set():
                try:
                    self._work(http)
                except httpx2.TransportError:
                    self.stop.wait(PAUSE_SECONDS)

    def _work(self, http: httpx2.Client) -> None:
        if not self._key and not self._register(http):
            return
        query = {"wait": f"{self.poll_seconds}"}
        answer = self._ask(http, "GET", f"/task/{self.name}", {200, 204}, params=query)
        if answer.status_code != 200:
            self._pause(answer)
            return
        task = answer.json()
        if task["task"] == "evaluate":
            report = {"num_samples": 10, "loss": 1.0, "accuracy": 0.5}
            self._ask(http, "POST", f"/tasks/{task['task_id']}/evaluation", {200, 410}, json=report)
        else:
            self._train(http, task)

    def _register(self, http: httpx2.Client) -> bool:
        answer = self._ask(http, "POST", "/client/register", {200, 201, 409}, json={"client_name": self.name})
        if answer.status_code == 409:  # the first answer was lost: this name's key is gone, take another name
            self.name += "x"
        elif answer.is_success:
            self._key = answer.json()["api_key"]
        else:
            self._pause(answer)
        return bool(self._key)

    def _train(self, http: httpx2.Client, task: dict[str, Any]) -> None:
        rng = np.random.default_rng(zlib.crc32(task["task_id"].encode()))
        if not self._download(http, task):
            return
        until, beat_seconds = time.monotonic() + rng.uniform(*self.train_seconds), task["heartbeat_seconds"]
        while (left := until - time.monotonic()) > beat_seconds and not self.stop.wait(beat_seconds):
            beat = self._ask(http, "POST", f"/tasks/{task['task_id']}/heartbeat", {200}, json={"progress": 0.5})
            if beat.is_success and beat.json()["action"] == "abort":
                return
        self.stop.wait(max(0.0, left))
        self._send(http, task["task_id"], self._body(task, rng))

    def _download(self, http: httpx2.Client, task: dict[str, Any]) -> bool:
        """Fetch the base model if it is new, and hold the coordinator to what it said of it. Say whether it is here."""
        version = int(task["model_version"].removeprefix("v"))
        if version < self._version:
            self.memory.unexpected.append(f"the model fell from v{self._version} to v{version}")
        self._version = version
        if version in self.memory.models:
            return True
        answer = self._ask(http, "GET", f"/model/v{version}", {200}, headers={"Accept": SAFETENSORS})
        if not answer.is_success:
            self._pause(answer)
            return False
        self.memory.models[version] = sha256_hex(answer.content)
        if self.memory.models[version] != task["model_digest"]:
            self.memory.unexpected.append(f"v{version} came with other bytes than its digest")
        return True

    def _send(self, http: httpx2.Client, task_id: str, body: bytes) -> None:
        """Send an update until there is a word on it. After a broken connection, go on where it broke."""
        digest = sha256_hex(body)
        self.memory.attempted.add(digest)
        offset = 0
        while not self.stop.is_set():
            try:
                answer = self._put(http, task_id, body, digest, offset)
            except httpx2.TransportError:
                self.stop.wait(PAUSE_SECONDS)
                offset = self._stored_bytes(http, task_id)
                continue
            if answer.status_code in SETTLED:
                said = answer.json()
                self.memory.acknowledged.append(Acknowledged(said["update_id"], task_id, digest))
            elif (answer.status_code == 409 and offset) or "retry-after" in answer.headers:
                self._pause(answer)
                offset = 0
                continue
            else:
                self._pause(answer)
            return

    def _put(self, http: httpx2.Client, task_id: str, body: bytes, digest: str, offset: int) -> httpx2.Response:
        headers = {"Content-Type": SAFETENSORS, "Content-Digest": format_content_digest(digest)}
        method, expected = "PUT", {200, 201, 410}
        if 0 < offset < len(body):
            headers |= {"Content-Type": PARTIAL_UPLOAD, "Upload-Offset": f"{offset}", "Upload-Complete": "?1"}
            method, expected, body = "PATCH", expected | {409}, body[offset:]
        began = time.monotonic()
        answer = self._ask(http, method, f"/tasks/{task_id}/update", expected, content=body, headers=headers)
        self.memory.accept_seconds.append(time.monotonic() - began)
        return answer

    def _stored_bytes(self, http: httpx2.Client, task_id: str) -> int:
        try:
            answer = self._ask(http, "HEAD", f"/tasks/{task_id}/update", {200})
        except httpx2.TransportError:
            return 0
        return int(answer.headers.get("upload-offset", "0"))

    def _ask(self, http: httpx2.Client, method: str, path: str, expected: set[int], **request: Any) -> httpx2.Response:
        """Return the answer, counted. What is neither expected nor a plea to come back later is noted."""
        headers = request.pop("headers", {}) | ({"Authorization": f"Bearer {self._key}"} if self._key else {})
        answer = http.request(method, path, headers=headers, **request)
        self.memory.answers[answer.status_code] += 1
        if answer.status_code not in expected | self.tolerated and "retry-after" not in answer.headers:
            self.memory.unexpected.append(f"{method} {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    def _pause(self, answer: httpx2.Response) -> None:
        told = float(answer.headers.get("retry-after", PAUSE_SECONDS))
        self.stop.wait(PAUSE_SECONDS if answer.is_success else min(told, LONGEST_PAUSE_SECONDS))

    def _body(self, task: dict[str, Any], rng: np.random.Generator) -> bytes:
        """Return the update of a task: always the same for the same task, and like that of no other task."""
        return encode_update(
            rng.normal(0, 0.01, self.num_parameters).astype(np.float32),
            encoding="f32",
            compression="none",
            topk_fraction=1.0,
            schema_digest=task["recipe"]["schema_digest"],
            num_samples=10,
            loss=1.0,
            train_seconds=None,
            rng=rng,
        )


@contextmanager
def working(clients: list[LightClient]) -> Iterator[None]:
    """Let clients work, each on a thread, for as long as the block runs."""
    threads = [threading.Thread(target=client.run, name=client.name, daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for client in clients:
            client.stop.set()
        for thread in threads:
            thread.join(30)
