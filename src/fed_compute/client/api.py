"""The coordinator over HTTP: one method per call, typed answers, typed errors, retries."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
import numpy as np
from pydantic import BaseModel, ValidationError

from fed_compute.client.answers import error_of, printable, retry_window
from fed_compute.client.backoff import Backoff
from fed_compute.clock import SystemClock
from fed_compute.errors import AnswerUnusable, CoordinatorUnreachable, NotNow, SettingInvalid
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import (
    PROTOCOL_HEADER,
    PROTOCOL_VERSION,
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

LONGEST_RETRY_SECONDS = 30.0
"""A call never pauses longer than this between its tries; longer waits are the caller's to make."""

_MAX_JSON_BYTES = 64 << 10
_MAX_TASK_BYTES = 2 << 20
"""A task lists the model's tensors, whose names take at most a mebibyte."""

_PIECES_AFTER_STOP = 8
"""So many reads more may an answer take once the client has to stop; the answer to giving a lease back takes one."""

_JSON = "application/json"
_TIMEOUT = httpx2.Timeout(30.0, connect=10.0, write=60.0)
_SHORT_TIMEOUT = httpx2.Timeout(10.0)
"""Of calls that are made once, and whose answer a client that leaves would wait for."""

_SLEEP = SystemClock().sleep
_AnswerT = TypeVar("_AnswerT", bound=BaseModel)
_ResultT = TypeVar("_ResultT")


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


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


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
        pause: Callable[[float], None] = _SLEEP,
        give_up: Callable[[], bool] = lambda: False,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        headers = {
            PROTOCOL_HEADER: str(PROTOCOL_VERSION),
            "User-Agent": f"fed-compute/{version('fed-compute')}",
            "Accept-Encoding": "identity",  # a size limit then holds for what is held in memory
        }
        try:
            self._http = httpx2.Client(
                base_url=base_url, headers=headers, timeout=_TIMEOUT, transport=transport, follow_redirects=False
            )
        except httpx2.InvalidURL as error:
            raise SettingInvalid(f"COORDINATOR_URL {base_url[:200]!r} is not an address: {error}") from error
        self._max_retries = max_retries
        self.backoff = backoff or Backoff(SystemClock(), np.random.default_rng(), base=2.0)
        self._before_try = before_try
        self._pause = pause
        self._give_up = give_up
        if api_key is not None:
            self.authenticate(api_key)

    def authenticate(self, api_key: str) -> None:
        """Use this key from now on."""
        self._http.headers["Authorization"] = f"Bearer {api_key}"

    def close(self) -> None:
        """Close all connections; the object is then of no more use."""
        self._http.close()

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
        reply = self._send(
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
        return _read(TaskAnswer, reply)

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

    def download_audited(self, task_id: str, *, digest: str, max_bytes: int) -> bytes:
        """`GET /tasks/{task_id}/audited`: the update that an audit is about, as it was sent. Its SHA-256 is `digest`.

        Raises:
            AnswerUnusable: if, on every try, it was longer than `max_bytes` or hashed to something else.
        """
        return self._download(
            f"{_task(task_id)}/audited", what="the audited update", digest=digest, max_bytes=max_bytes
        )

    def submit_update(self, task_id: str, body: bytes, content_type: str) -> UpdateAnswer:
        """`PUT /tasks/{task_id}/update`. Sending the same bytes again is safe: they count once."""
        headers = {"Content-Type": content_type, "Content-Digest": format_content_digest(sha256_hex(body))}
        return self._json(UpdateAnswer, "PUT", f"{_task(task_id)}/update", content=body, headers=headers)

    def submit_measurement(self, task_id: str, request: EvaluationRequest | AuditRequest) -> TaskDone:
        """`POST /tasks/{task_id}/evaluation`, or `…/audit`. Sending it again is safe: the first one stands."""
        what = "audit" if isinstance(request, AuditRequest) else "evaluation"
        return self._json(TaskDone, "POST", f"{_task(task_id)}/{what}", **_json_body(request))

    def heartbeat(self, task_id: str, progress: float) -> HeartbeatAnswer:
        """`POST /tasks/{task_id}/heartbeat`, one try only: the next heartbeat is the retry."""
        request = HeartbeatRequest(progress=min(max(progress, 0.0), 1.0))
        return _read(
            HeartbeatAnswer,
            self._try("POST", f"{_task(task_id)}/heartbeat", timeout=_SHORT_TIMEOUT, **_json_body(request)),
        )

    def release_task(self, task_id: str) -> TaskDone:
        """`DELETE /tasks/{task_id}`: give the lease back, one try only."""
        return _read(TaskDone, self._try("DELETE", _task(task_id), timeout=_SHORT_TIMEOUT))

    def _download(self, path: str, *, what: str, digest: str, max_bytes: int, **request: Any) -> bytes:
        def fetch() -> bytes:
            body = self._try("GET", path, max_bytes=max_bytes, **request).body
            if (got := sha256_hex(body)) != digest:
                raise _unusable(f"{what} hashes to sha-256 {got}, the task says {digest[:80]}")
            return body

        return self._retrying(fetch)

    def _json(self, answer: type[_AnswerT], method: str, path: str, **request: Any) -> _AnswerT:
        return self._retrying(lambda: _read(answer, self._try(method, path, **request)))

    def _send(self, method: str, path: str, **request: Any) -> _Reply:
        return self._retrying(lambda: self._try(method, path, **request))

    def _retrying(self, call: Callable[[], _ResultT]) -> _ResultT:
        retries_left = self._max_retries
        while True:
            try:
                answer = call()
                self.backoff.succeeded()
                return answer
            except NotNow as error:
                self.backoff.failed(error)
                seconds = self.backoff.seconds_left()
                if retries_left == 0 or seconds > LONGEST_RETRY_SECONDS:
                    raise
            retries_left -= 1
            self._pause(seconds)

    def _try(self, method: str, path: str, *, max_bytes: int = _MAX_JSON_BYTES, **request: Any) -> _Reply:
        """Make one call; return a 2xx answer or raise what it means."""
        self._before_try()
        try:
            with self._http.stream(method, path, **request) as response:
                reply = _Reply(response.status_code, response.headers, self._body(response, max_bytes))
        except httpx2.RequestError as error:
            raise CoordinatorUnreachable(
                f"no answer from {self._http.base_url}: {error or type(error).__name__}", retry_after_seconds=0.0
            ) from error
        if not 200 <= reply.status < 300:
            raise error_of(reply.status, reply.headers, reply.body)
        return reply

    def _body(self, response: httpx2.Response, max_bytes: int) -> bytes:
        """Read a body of at most `max_bytes`; never more than that and one network read is held.

        Of an error only the beginning is read. A body that drips in for ever ends when the client has to stop.
        """
        body, pieces_after_stop = bytearray(), 0
        for piece in response.iter_bytes():
            body += piece
            pieces_after_stop += self._give_up()
            if not response.is_success and len(body) >= _MAX_JSON_BYTES:
                break
            if len(body) > max_bytes:
                raise _unusable(f"the answer to {response.request.url.path} is longer than {max_bytes} bytes")
            if pieces_after_stop > _PIECES_AFTER_STOP:
                raise _unusable(f"the answer to {response.request.url.path} had not ended when the client had to stop")
        return bytes(body)


def _json_body(request: Request) -> dict[str, Any]:
    return {"content": wire_form(request), "headers": {"Content-Type": _JSON}}


def _wishes(job: str | None, *, evaluates: bool, audits: bool) -> dict[str, str]:
    """Return what is asked for besides the next best task; nothing where the coordinator would do so anyhow."""
    wanted = {"job": job, "evaluate": None if evaluates else "false", "audit": "true" if audits else None}
    return {name: value for name, value in wanted.items() if value is not None}


def _task(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


def _idle(reply: _Reply) -> Idle:
    reason = reply.headers.get("fed-compute-reason", "waiting")
    return Idle(retry_window(reply.headers), printable(reason[:80]))


def _read(answer: type[_AnswerT], reply: _Reply) -> _AnswerT:
    try:
        return answer.model_validate_json(reply.body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise _unusable(
            f"the answer with status {reply.status} is not a {answer.__name__}: "
            f"{printable(where[:200])} {problem['msg']}; "
            "is COORDINATOR_URL the address of a fed-compute coordinator?"
        ) from error


def _unusable(message: str) -> AnswerUnusable:
    return AnswerUnusable(message, retry_after_seconds=0.0)
