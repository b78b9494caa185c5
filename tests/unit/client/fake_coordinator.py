"""A small coordinator in memory that speaks the real protocol, with faults on request."""

import json
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx2

from fed_compute.client.recipes import schema_of
from fed_compute.protocol.digests import parse_content_digest, sha256_hex
from fed_compute.protocol.messages import Recipe, TaskAnswer
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import DecodedUpdate, decode_update
from tests.unit.client.recipes import recipe_for, start_of, task_for

Fault = Callable[[httpx2.Request], httpx2.Response]


def problem(status: int, code: str, detail: str = "as the test wants", **headers: str) -> httpx2.Response:
    """Return a problem document as the coordinator sends it."""
    body = {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code}
    return httpx2.Response(status, json=body, headers=headers)


def unreachable(request: httpx2.Request) -> httpx2.Response:
    """A fault: nobody listens."""
    raise httpx2.ConnectError("connection refused", request=request)


def answering(status: int, code: str, **headers: str) -> Fault:
    """A fault: the call is answered with this problem and does nothing."""
    return lambda request: problem(status, code, **headers)


@dataclass
class FakeCoordinator:
    """Hands out the tasks of `kinds` in turn, and adds each accepted delta to its model.

    Audits are about the update `audited`, a file as another client would have sent it.
    `faults` maps a call such as `PUT update` to what happens to its next ones, one after another;
    None lets one call through. `cuts` says after how many bytes the next pieces of uploads are cut,
    one after another; None lets one through. `lost_replies` counts calls that are served and whose answer is lost.
    `on_arrival` sees each request before anything else.
    """

    recipe: Recipe = field(default_factory=recipe_for)
    kinds: tuple[str, ...] = ("train",)
    tasks_to_give: int = 1
    seconds_left: float = 60.0
    heartbeat_seconds: float = 30.0
    idle_seconds: float = 0.01
    faults: dict[str, list[Fault | None]] = field(default_factory=dict)
    lost_replies: dict[str, int] = field(default_factory=dict)
    cuts: list[int | None] = field(default_factory=list)
    abort_reason: str | None = None
    min_updates: int | None = 2
    audited: bytes = b""
    auditors: int | None = 3
    on_arrival: Callable[[httpx2.Request], None] = lambda request: None

    def __post_init__(self) -> None:
        self.vector: Vector = start_of(self.recipe)
        self.keys: dict[str, str] = {}
        self.calls: Counter[str] = Counter()
        self.requests: list[httpx2.Request] = []
        self.updates: dict[str, tuple[str, DecodedUpdate]] = {}
        self.sizes: dict[str, int] = {}
        self.pieces: dict[str, bytes] = {}
        self.evaluations: dict[str, dict[str, object]] = {}
        self.audits: dict[str, dict[str, object]] = {}
        self.heartbeats: list[float] = []
        self.released: list[str] = []
        self.open_task: TaskAnswer | None = None
        self.given = 0
        self._lock = threading.Lock()

    def transport(self) -> httpx2.MockTransport:
        """Return the way to this coordinator."""
        return httpx2.MockTransport(self.handle)

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        """Serve one request, with its fault if it has one."""
        name = self._name(request)
        with self._lock:
            self.calls[name] += 1
            self.requests.append(request)
            self.on_arrival(request)
            waiting = self.faults.get(name, [])
            fault = waiting.pop(0) if waiting else None
            if fault is not None:
                return fault(request)
            answer = self._serve(name, request)
            if self.lost_replies.get(name, 0) > 0:
                self.lost_replies[name] -= 1
                raise httpx2.ReadTimeout("the reply was lost", request=request)
            return answer

    def _name(self, request: httpx2.Request) -> str:
        """Name a call by its method and the word that tells it apart: `PUT update`, `GET task`, `DELETE tasks`."""
        parts = request.url.path.strip("/").split("/")
        word = parts[-1] if parts[0] == "client" or len(parts) == 3 else parts[0]
        return f"{request.method} {word}"

    def _serve(self, name: str, request: httpx2.Request) -> httpx2.Response:
        if name != "POST register" and request.headers.get("authorization") not in self._bearers():
            return problem(401, "authentication_failed")
        task_id = request.url.path.split("/")[2] if request.url.path.count("/") >= 2 else ""
        match name:
            case "POST register":
                return self._register(json.loads(request.content))
            case "GET task":
                return self._task()
            case "GET model":
                assert request.url.params["job"] == "default"
                return httpx2.Response(200, content=self.model_file())
            case "PUT update":
                return self._update(task_id, request, request.content)
            case "HEAD update":
                return httpx2.Response(200, headers={"Upload-Offset": str(self._stored(task_id))})
            case "PATCH update":
                return self._piece(task_id, request)
            case "POST evaluation":
                self.evaluations[task_id] = json.loads(request.content)
                self.open_task = None
                return self._done(task_id)
            case "GET audited":
                return httpx2.Response(200, content=self.audited)
            case "POST audit":
                self.audits.setdefault(task_id, json.loads(request.content))
                self.open_task = None
                return self._done(task_id)
            case "POST heartbeat":
                return self._heartbeat(task_id, json.loads(request.content)["progress"])
            case "DELETE tasks":
                self.released.append(task_id)
                self.open_task = None
                return self._done(task_id)
        return problem(404, "not_found")

    def model_file(self) -> bytes:
        """Return the global model as a file."""
        return encode_model(self.vector, schema_of(self.recipe))

    def _bearers(self) -> set[str]:
        return {f"Bearer {key}" for key in self.keys.values()}

    def _register(self, body: dict[str, str]) -> httpx2.Response:
        name = body["client_name"]
        if name in self.keys:
            return problem(409, "client_name_taken")
        self.keys[name] = f"sk_{len(self.keys)}_secret"
        answer = {"success": True, "message": "ok", "client_id": name, "api_key": self.keys[name]}
        return httpx2.Response(200, json=answer)

    def _task(self) -> httpx2.Response:
        if self.open_task is None:
            if self.given >= self.tasks_to_give:
                return httpx2.Response(
                    204, headers={"Retry-After": f"{self.idle_seconds:g}", "Fed-Compute-Reason": "job_finished"}
                )
            kind = self.kinds[self.given % len(self.kinds)]
            self.given += 1
            self.open_task = task_for(
                self.recipe,
                task=kind,
                task_id=f"t_{self.given}",
                round_id=self.given,
                model_version=f"v{len(self.updates) + 1}",
                model_digest=sha256_hex(self.model_file()),
                seconds_left=self.seconds_left,
                heartbeat_seconds=self.heartbeat_seconds,
                min_updates=self.min_updates,
                auditors=self.auditors,
                audited_digest=sha256_hex(self.audited) if kind == "audit" else None,
            )
        return httpx2.Response(200, content=self.open_task.model_dump_json())

    def _stored(self, task_id: str) -> int:
        if task_id in self.updates:
            return self.sizes[task_id]
        return len(self.pieces.get(task_id, b""))

    def _piece(self, task_id: str, request: httpx2.Request) -> httpx2.Response:
        """Append a piece; one that `cuts` names is cut there, and its sender hears nothing."""
        if int(request.headers["upload-offset"]) != self._stored(task_id):
            return problem(409, "upload_offset_mismatch")
        cut = self.cuts.pop(0) if self.cuts else None
        self.pieces[task_id] = self.pieces.get(task_id, b"") + request.content[:cut]
        if cut is not None and cut < len(request.content):
            raise httpx2.WriteError("the line was cut", request=request)
        if request.headers["upload-complete"] == "?0":
            return httpx2.Response(204)
        return self._update(task_id, request, self.pieces.pop(task_id))

    def _update(self, task_id: str, request: httpx2.Request, body: bytes) -> httpx2.Response:
        recipe = self.recipe
        digest = sha256_hex(body)
        assert parse_content_digest(request.headers["content-digest"]) == digest
        repeated = task_id in self.updates
        if repeated and self.updates[task_id][0] != digest:
            return problem(409, "update_conflict")
        if not repeated:
            update = decode_update(
                body,
                num_parameters=self.vector.size,
                schema_digest=recipe.schema_digest,
                encoding=recipe.encoding,
                compression=recipe.compression,
                topk_fraction=recipe.topk_fraction,
            )
            self.updates[task_id] = (digest, update)
            self.sizes[task_id] = len(body)
            self.vector = self.vector + update.delta
            self.open_task = None
        answer = {
            "success": True,
            "message": "ok",
            "update_id": len(self.updates),
            "round_id": int(task_id.removeprefix("t_")),
            "task_id": task_id,
            "digest": digest,
            "repeated": repeated,
        }
        return httpx2.Response(200 if repeated else 201, json=answer)

    def _heartbeat(self, task_id: str, progress: float) -> httpx2.Response:
        self.heartbeats.append(progress)
        action = "continue" if self.abort_reason is None else "abort"
        answer = {"task_id": task_id, "action": action, "reason": self.abort_reason, "deadline": 0.0}
        return httpx2.Response(200, json={**answer, "seconds_left": self.seconds_left})

    def _done(self, task_id: str) -> httpx2.Response:
        return httpx2.Response(200, json={"success": True, "message": "ok", "task_id": task_id})
