"""The coordinator over HTTP: one method per call, typed answers, typed errors, retries."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx2
import numpy as np
from pydantic import BaseModel

from fed_compute.client.answers import printable, retry_window
from fed_compute.client.api_calls import SHORT_TIMEOUT, SLEEP, Calls, Reply, unusable
from fed_compute.client.api_uploads import Sent, Upload
from fed_compute.client.backoff import Backoff
from fed_compute.clock import SystemClock
from fed_compute.protocol import tracing
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.messages import (
    SAFETENSORS,
    AuditRequest,
    EvaluationRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    RegisterAnswer,
    RegisterRequest,
    Request,
    TaskAnswer,
    TaskDone,
    UpdateAnswer,
)

PIECE_BYTES = 8_000_000
"""Updates longer than this are sent in pieces of this size."""

_MAX_TASK_BYTES = 2 << 20
"""A task lists the model's tensors, whose names take at most a mebibyte."""

_JSON = "application/json"
_AnswerT = TypeVar("_AnswerT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing to do now. `window` is when to ask again, from and to in seconds; None if that is not said."""

    window: tuple[float, float] | None
    reason: str

    @property
    def gap_seconds(self) -> float:
        """How often the coordinator wants each client: the usual window, one width ahead, makes it 1.5 widths."""
        return 0.0 if self.window is None else 1.5 * (self.window[1] - self.window[0])

    def draw_seconds(self, rng: np.random.Generator, *, otherwise: float) -> float:
        """Return how long to wait: an even draw from the window, or `otherwise` where none was given."""
        return otherwise if self.window is None else float(rng.uniform(*self.window))


def wire_form(request: Request) -> bytes:
    """Return the bytes in which a request travels: what was set, and nothing else. Equal requests give equal bytes."""
    return json.dumps(said(request), separators=(",", ":"), allow_nan=False).encode()


def said(request: Request) -> dict[str, Any]:
    """Return what a request says: the fields that were set, and null only where a field may not be left out."""
    needed = {name for name, field in type(request).model_fields.items() if field.is_required()}
    nothing = {name: None for name in needed if getattr(request, name) is None}
    return {**request.model_dump(mode="json", exclude_none=True, exclude_unset=True), **nothing}


class CoordinatorApi:
    """One coordinator. Heartbeats may come from another thread. It follows no redirects: a key goes to one host only.

    Each call makes at most `max_retries` + 1 tries, with a `pause` between them as long as `backoff` says;
    one that would be longer than `LONGEST_RETRY_SECONDS` ends the call. Only `NotNow` is ever tried again.
    `before_try` runs before each try; `pause` may raise to end them; `give_up` says whether to stop
    reading an answer that does not end.

    Raises (every call):
        NotNow: nothing is wrong with the call; try later.
        TaskOver: the task or round has ended.
        ClientMustAct: the owner of this client has to change something.
        CallRefused: the coordinator refuses this request for good.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str | None = None,
        max_retries: int = 3,
        backoff: Backoff | None = None,
        before_try: Callable[[], None] = lambda: None,
        pause: Callable[[float], None] = SLEEP,
        give_up: Callable[[], bool] = lambda: False,
        piece_bytes: int = PIECE_BYTES,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._piece_bytes = piece_bytes
        self.backoff = backoff or Backoff(SystemClock(), np.random.default_rng(), base=2.0)
        self._calls = Calls(
            base_url,
            max_retries=max_retries,
            backoff=self.backoff,
            before_try=before_try,
            pause=pause,
            give_up=give_up,
            transport=transport,
        )
        if api_key is not None:
            self.authenticate(api_key)

    def authenticate(self, api_key: str) -> None:
        """Use this key from now on."""
        self._calls.authenticate(api_key)

    def close(self) -> None:
        """Close all connections; the object is then of no more use."""
        self._calls.close()

    def register(self, request: RegisterRequest) -> RegisterAnswer:
        """`POST /client/register`. The answer holds the key, once."""
        return self._json(RegisterAnswer, "POST", "/client/register", **_json_body(request))

    def next_task(
        self,
        client_id: str,
        *,
        wait_seconds: float,
        job: str | None = None,
        evaluates: bool = True,
        audits: bool = False,
    ) -> TaskAnswer | Idle:
        """`GET /task/{client_id}`, answered as soon as there is a task, after `wait_seconds` at the latest.

        With `job` only a task of that job; without `evaluates` no evaluation, without `audits` no audit. A
        coordinator may ignore all three.
        """
        reply = self._calls.send(
            "GET",
            f"/task/{quote(client_id, safe='')}",
            max_bytes=_MAX_TASK_BYTES,
            params={"wait": f"{wait_seconds:g}", **_wishes(job, evaluates=evaluates, audits=audits)},
            timeout=httpx2.Timeout(30.0, connect=10.0, read=30.0 + wait_seconds),
        )
        if reply.status == 204:
            idle = _idle(reply)
            self.backoff.keep_pace(idle.gap_seconds)
            return idle
        return reply.read(TaskAnswer)

    @tracing.span("fetch model", kind="client")
    def download_model(self, model_version: str, *, job: str, digest: str, max_bytes: int) -> bytes:
        """`GET /model/{version}` as a model file whose SHA-256 is `digest`.

        Raises:
            AnswerUnusable: if, on every try, it was longer than `max_bytes` or hashed to something else.
        """
        return self._download(
            f"/model/{quote(model_version, safe='')}",
            what=f"model {model_version[:40]}",
            digest=digest,
            max_bytes=max_bytes,
            params={"job": job},
            headers={"Accept": SAFETENSORS},
        )

    def download_of_task(
        self, task_id: str, what: Literal["audited", "control"], *, digest: str, max_bytes: int
    ) -> bytes:
        """Return a file that belongs to a task, whose SHA-256 is `digest`.

        `GET /tasks/{task_id}/audited`: the update that an audit is about, as it was sent.
        `GET /tasks/{task_id}/control`: the control variate that a training goes with, in the form of a model file.

        Raises:
            AnswerUnusable: if, on every try, it was longer than `max_bytes` or hashed to something else.
        """
        told = {"audited": "the audited update", "control": "the control variate"}[what]
        return self._download(f"{_task(task_id)}/{what}", what=told, digest=digest, max_bytes=max_bytes)

    def submit_update(
        self, task_id: str, body: bytes, content_type: str, *, on_sent: Sent = lambda num_bytes: None
    ) -> UpdateAnswer:
        """Send an update. Sending the same bytes again is safe: they count once. `on_sent` is told how many are sent.

        `PUT /tasks/{task_id}/update`, or for one that is longer than a piece `HEAD` and as many `PATCH` as
        it takes, from where the coordinator has it: one that broke off, also of an earlier process, goes on.
        """
        upload = Upload(self._calls, f"{_task(task_id)}/update", body, on_sent=on_sent)
        if len(body) <= self._piece_bytes:
            return self._calls.retrying(lambda: upload.whole(content_type))
        return self._calls.retrying(lambda: upload.in_pieces(self._piece_bytes))

    def submit_measurement(self, task_id: str, request: EvaluationRequest | AuditRequest) -> TaskDone:
        """`POST /tasks/{task_id}/evaluation`, or `…/audit`. Sending it again is safe: the first one stands."""
        what = "audit" if isinstance(request, AuditRequest) else "evaluation"
        return self._json(TaskDone, "POST", f"{_task(task_id)}/{what}", **_json_body(request))

    def heartbeat(self, task_id: str, progress: float) -> HeartbeatAnswer:
        """`POST /tasks/{task_id}/heartbeat`, one try only: the next heartbeat is the retry."""
        request = _json_body(HeartbeatRequest(progress=min(max(progress, 0.0), 1.0)))
        reply = self._calls.once("POST", f"{_task(task_id)}/heartbeat", timeout=SHORT_TIMEOUT, **request)
        return reply.read(HeartbeatAnswer)

    def release_task(self, task_id: str) -> TaskDone:
        """`DELETE /tasks/{task_id}`: give the lease back, one try only."""
        return self._calls.once("DELETE", _task(task_id), timeout=SHORT_TIMEOUT).read(TaskDone)

    def _download(self, path: str, *, what: str, digest: str, max_bytes: int, **request: Any) -> bytes:
        def fetch() -> bytes:
            body = self._calls.once("GET", path, max_bytes=max_bytes, **request).body
            if (got := sha256_hex(body)) != digest:
                raise unusable(f"{what} hashes to sha-256 {got}, the task says {digest[:80]}")
            return body

        return self._calls.retrying(fetch)

    def _json(self, answer: type[_AnswerT], method: str, path: str, **request: Any) -> _AnswerT:
        return self._calls.retrying(lambda: self._calls.once(method, path, **request).read(answer))


def _json_body(request: Request) -> dict[str, Any]:
    return {"content": wire_form(request), "headers": {"Content-Type": _JSON}}


def _wishes(job: str | None, *, evaluates: bool, audits: bool) -> dict[str, str]:
    """Return what is asked for besides the next best task; nothing where the coordinator would do so anyhow."""
    wanted = {"job": job, "evaluate": None if evaluates else "false", "audit": "true" if audits else None}
    return {name: value for name, value in wanted.items() if value is not None}


def _task(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _idle(reply: Reply) -> Idle:
    reason = reply.headers.get("fed-compute-reason", "waiting")
    return Idle(retry_window(reply.headers), printable(reason[:80]))
