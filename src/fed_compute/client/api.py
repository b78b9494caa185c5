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

from fed_compute.client.answers import error_of, printable, retry_after
from fed_compute.clock import SystemClock
from fed_compute.errors import AnswerUnusable, CoordinatorBusy, CoordinatorUnreachable, NotNow, SettingInvalid
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
    """Nothing to do now. `retry_after_seconds` is the coordinator's wish, None if it has none."""

    retry_after_seconds: float | None
    reason: str


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


def retry_seconds(failures: int, *, delay: float, told: float | None, chance: float) -> float:
    """Return the pause after so many failures of one call, at least 1.

    What the coordinator told; else `delay`, doubled for each further failure, and up to half of `delay` more by
    `chance` from 0 to 1, at most `LONGEST_RETRY_SECONDS`.
    """
    if told is not None:
        return told
    return min(delay * 2.0 ** min(failures - 1, 30) + delay / 2 * chance, LONGEST_RETRY_SECONDS)


class CoordinatorApi:
    """One coordinator. May be used from several threads at once. It follows no redirects: a key goes to one host only.

    Each call makes at most `max_retries` + 1 tries, with a `pause` of `retry_seconds` between them. A
    `Retry-After` of the coordinator that is longer than `LONGEST_RETRY_SECONDS` ends the call. Only
    `NotNow` is ever tried again. `before_try` runs before each try; `pause` may raise to end them;
    `give_up` says whether to stop reading an answer that does not end.

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
        retry_delay: float = 2.0,
        before_try: Callable[[], None] = lambda: None,
        pause: Callable[[float], None] = _SLEEP,
        give_up: Callable[[], bool] = lambda: False,
        rng: np.random.Generator | None = None,
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
        self._retry_delay = retry_delay
        self._before_try = before_try
        self._pause = pause
        self._rng = rng or np.random.default_rng()
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
        wishes = {} if job is None else {"job": job}
        if not evaluates:
            wishes["evaluate"] = "false"
        if audits:
            wishes["audit"] = "true"
        reply = self._send(
            "GET",
            f"/task/{quote(client_id, safe='')}",
            max_bytes=_MAX_TASK_BYTES,
            params={"wait": f"{wait_seconds:g}", **wishes},
            timeout=httpx2.Timeout(30.0, connect=10.0, read=30.0 + wait_seconds),
        )
        if reply.status == 204:
            reason = reply.headers.get("fed-compute-reason", "waiting")
            return Idle(retry_after(reply.headers), printable(reason[:80]))
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
        failures = 0
        while True:
            try:
                return call()
            except NotNow as error:
                failures += 1
                seconds = self._seconds_after(error, failures)
                if failures > self._max_retries or seconds > LONGEST_RETRY_SECONDS:
                    raise
            self._pause(seconds)

    def _seconds_after(self, error: NotNow, failures: int) -> float:
        told = isinstance(error, CoordinatorBusy) and error.details["told"]
        return retry_seconds(
            failures,
            delay=self._retry_delay,
            told=error.retry_after_seconds if told else None,
            chance=float(self._rng.random()),
        )

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


def _task(task_id: str) -> str:
    return f"/tasks/{quote(task_id, safe='')}"


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
