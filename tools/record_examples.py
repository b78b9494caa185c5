"""Write the examples of the API's documentation: a small run against a real coordinator, each call recorded.

Whatever only reads is asked by itself; a call that changes something needs a line in `play`. What is left without an
example is named, and nothing is written. Keys and invitations are made unusable before they are written.
"""

import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np

from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.job import parse_job_text
from fed_compute.protocol.messages import SAFETENSORS
from fed_compute.protocol.updates import encode_update
from fed_compute.server.serve import serve_in_background
from fed_compute.server.uploads import PARTIAL_UPLOAD

TARGET = Path(__file__).parent.parent / "src" / "fed_compute" / "server" / "examples.json"
JSON, TOML = "application/json", "application/toml"
JOB = """name = "{name}"
description = "Three features, two classes."

[model]
name = "simple_mlp"
args = {{ input_dim = 3, hidden_dim = 2, output_dim = 2 }}

[rounds]
total = 5
target_updates = 3
min_updates = 1
over_selection = 2.0
"""
LONGEST_TEXT_LINES = 12
_SECRETS = re.compile(r"\b((?:sk|inv)_[0-9A-Za-z]{10}_)([0-9A-Za-z]{28,49})")


class Recorder:
    """Makes calls, and keeps what was sent and answered by method and path."""

    def __init__(self, url: str, *, operator_key: str) -> None:
        self.examples: dict[str, dict[str, Any]] = {}
        self.keys = {"operator": operator_key}
        self._http = httpx2.Client(base_url=url, timeout=40.0, headers={"Fed-Compute-Protocol": "1"})

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def call(
        self,
        operation: str,
        /,
        *,
        by: str | None = None,
        body: Any = None,
        media: str = JSON,
        headers: dict[str, str] | None = None,
        query: dict[str, Any] | None = None,
        **path: Any,
    ) -> httpx2.Response:
        """Make a call, like `GET /status/{round_id}`, and record it.

        Raises:
            SystemExit: if it is refused.
        """
        method, template = operation.split(" ")
        sent = {"Authorization": f"Bearer {self.keys[by]}"} if by else {}
        content = json.dumps(body).encode() if media == JSON else body.encode() if isinstance(body, str) else body
        if body is not None:
            sent["Content-Type"] = media
        sent |= headers or {}
        with self._http.stream(
            method, template.format(**path), headers=sent, params=query, content=None if body is None else content
        ) as answer:
            told = _first_lines(answer) if "event-stream" in answer.headers.get("content-type", "") else answer.read()
        if not answer.is_success:
            raise SystemExit(f"{operation}: {answer.status_code} {answer.text}")
        self._keep(operation, path | (query or {}), {media: body}, answer, told)
        return answer

    def _keep(
        self, operation: str, parameters: dict[str, Any], sent: dict[str, Any], answer: httpx2.Response, told: bytes
    ) -> None:
        known = self.examples.setdefault(operation, {})
        if parameters:
            known["parameters"] = known.get("parameters", {}) | parameters
        for media, body in sent.items():
            if isinstance(body, str | dict | list):
                known.setdefault("request", {})[media] = body
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if kind == JSON:
            known.setdefault("responses", {}).setdefault(str(answer.status_code), {})[kind] = json.loads(told)
        elif kind.startswith("text/") or kind == "application/openmetrics-text":
            text = "".join(told.decode().replace("\r\n", "\n").splitlines(keepends=True)[:LONGEST_TEXT_LINES])
            known.setdefault("responses", {}).setdefault(str(answer.status_code), {})[kind] = text


def _first_lines(answer: httpx2.Response) -> bytes:
    lines = []
    for line in answer.iter_lines():
        lines.append(line)
        if len(lines) == LONGEST_TEXT_LINES:
            break
    return "\n".join([*lines, ""]).encode()


def delta_of(task: dict[str, Any]) -> np.ndarray:
    """Return small changes of every weight, other ones for each task."""
    size = sum(int(np.prod(shape)) for _, shape in task["recipe"]["parameters"])
    return np.random.default_rng(task["recipe"]["seed"]).normal(0, 0.1, size).round(4).astype(np.float32)


def as_json(task: dict[str, Any]) -> dict[str, Any]:
    """Return an update as tensors by name."""
    flat, tensors = delta_of(task), {}
    for name, shape in task["recipe"]["parameters"]:
        size = int(np.prod(shape))
        tensors[name], flat = [round(float(x), 4) for x in flat[:size]], flat[size:]
        tensors[name] = np.array(tensors[name]).reshape(shape).tolist()
    return tensors


def as_file(task: dict[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return an update as a file, and the header that announces it."""
    body = encode_update(
        delta_of(task),
        encoding="f32",
        compression="none",
        topk_fraction=1.0,
        schema_digest=task["recipe"]["schema_digest"],
        num_samples=120,
        loss=0.61,
        train_seconds=2.5,
        rng=np.random.default_rng(0),
    )
    return body, {"Content-Digest": format_content_digest(sha256_hex(body))}


def play_training(recorder: Recorder) -> dict[str, Any]:
    """Let three clients finish a round in three ways; return what later calls are about."""
    for name in ("lab-berlin", "lab-lyon", "lab-oslo"):
        about = {"client_name": name, "capabilities": {"cpu_count": 8, "memory_bytes": 16 * 2**30, "cuda": False}}
        recorder.keys[name] = recorder.call("POST /client/register", body=about).json()["api_key"]
    tasks = {
        name: recorder.call("GET /task/{client_id}", by=name, client_id=name).json()
        for name in ("lab-lyon", "lab-oslo", "lab-berlin")
    }
    berlin, lyon, oslo = tasks["lab-berlin"], tasks["lab-lyon"], tasks["lab-oslo"]
    recorder.call("POST /tasks/{task_id}/heartbeat", by="lab-berlin", task_id=berlin["task_id"], body={"progress": 0.4})
    update = {"client_id": "lab-berlin", "round_id": 1, "weight_delta": as_json(berlin), "num_samples": 120}
    recorder.call("POST /update", by="lab-berlin", body={**update, "loss": 0.61})
    name, path, (body, digest) = "PUT /tasks/{task_id}/update", lyon["task_id"], as_file(lyon)
    for _ in range(2):  # the second time it was there before
        recorder.call(name, by="lab-lyon", task_id=path, body=body, media=SAFETENSORS, headers=digest)
    name, path, (body, digest) = "PATCH /tasks/{task_id}/update", oslo["task_id"], as_file(oslo)
    for start, end, last in ((0, 100, "?0"), (100, len(body), "?1"), (len(body), len(body), "?1")):
        piece = {**digest, "Upload-Offset": f"{start}", "Upload-Complete": last}
        recorder.call(name, by="lab-oslo", task_id=path, body=body[start:end], media=PARTIAL_UPLOAD, headers=piece)
    recorder.call("HEAD /tasks/{task_id}/update", by="lab-oslo", task_id=path)
    task = _task_of(recorder, "lab-berlin", kind="evaluate")
    measured = {"num_samples": 30, "loss": 0.58, "accuracy": 0.7}
    recorder.call("POST /tasks/{task_id}/evaluation", by="lab-berlin", task_id=task["task_id"], body=measured)
    task = _task_of(recorder, "lab-berlin", kind="train")
    recorder.call("DELETE /tasks/{task_id}", by="lab-berlin", task_id=task["task_id"])
    return {"task_id": berlin["task_id"]}


def _task_of(recorder: Recorder, client: str, *, kind: str) -> dict[str, Any]:
    quiet = Recorder("", operator_key="")
    quiet.keys, quiet._http = recorder.keys, recorder._http
    for _ in range(100):
        answer = quiet.call("GET /task/{client_id}", by=client, client_id=client, query={"wait": 1})
        if answer.status_code == 200 and answer.json()["task"] == kind:
            return dict(answer.json())
        time.sleep(0.05)
    raise SystemExit(f"{client} is given no task of kind {kind}")


def play_community(recorder: Recorder) -> None:
    """Found a team, join it and leave it; renew a key."""
    code = recorder.call("POST /teams", by="lab-berlin", body={"name": "Northern-Labs"}).json()["code"]
    for name in ("lab-lyon", "lab-oslo"):
        recorder.call("POST /teams/join", by=name, body={"code": code})
    recorder.call("DELETE /teams/membership", by="lab-lyon")
    recorder.call("POST /teams/code", by="lab-berlin")
    recorder.call("GET /client/{client_id}", by="lab-berlin", client_id="lab-berlin")
    recorder.call(
        "POST /client/{client_id}/key/rotate", by="lab-oslo", client_id="lab-oslo", body={"overlap_hours": 24.0}
    )


def play_operator(recorder: Recorder, known: dict[str, Any]) -> dict[str, Any]:
    """Do what operators do; return what later calls are about."""
    by = "operator"
    for media, body in ((TOML, JOB.format(name="iris")), (JSON, {"job": _job_as_json("iris")})):
        recorder.call("POST /jobs", by=by, body=body, media=media)
    for act in ("pause", "resume", "stop"):
        recorder.call(f"POST /jobs/{{name}}/{act}", by=by, name="iris")
    wanted = {"scope": "observer", "label": "grafana", "days": 90}
    key = recorder.call("POST /admin/keys", by=by, body=wanted).json()["key_id"]
    renewed = recorder.call("POST /admin/keys/{key_id}/rotate", by=by, key_id=key, body={"overlap_hours": 1.0}).json()
    recorder.call("POST /admin/keys/{key_id}/revoke", by=by, key_id=key)
    wanted = {"uses": 5, "days": 14, "rounds_per_day": 50, "label": "summer school"}
    invite = recorder.call("POST /admin/invites", by=by, body=wanted).json()["invite_id"]
    recorder.call("POST /admin/invites/{invite_id}/revoke", by=by, invite_id=invite)
    client = {"by": by, "client_id": "lab-lyon"}
    recorder.call("POST /admin/clients/{client_id}/approve", **client)
    banned = {"reason": "sends noise", "with_invited": False}
    recorder.call("POST /admin/clients/{client_id}/ban", **client, body=banned)
    recorder.call("POST /admin/clients/{client_id}/unban", **client)
    recorder.call("POST /admin/clients/{client_id}/rotate", **client, body={"overlap_hours": 0.0})
    taken_back = {"task_id": known["task_id"], "note": "the same machine under two names"}
    recorder.call("POST /incentives/reversals", by=by, body=taken_back)
    return {"key_id": renewed["key_id"], "invite_id": invite}


def _job_as_json(name: str) -> dict[str, Any]:
    return parse_job_text(JOB.format(name=name)).model_dump(mode="json", exclude_defaults=True)


def write_audit(recorder: Recorder) -> None:
    """Add the one example that is not recorded: only clients of long standing are asked to audit."""
    task = {"task_id": "t_5f0c2d9e8b7a61340f9e8d7c"}
    recorder.examples["POST /tasks/{task_id}/audit"] = {
        "parameters": task,
        "request": {JSON: {"num_samples": 30, "base_loss": 0.61, "loss": 0.58}},
        "responses": {"200": {JSON: {"success": True, "message": "Audit by lab-oslo recorded", **task}}},
    }


def ask_everything(recorder: Recorder, document: dict[str, Any], known: dict[str, Any]) -> None:
    """Make each call that only reads and is not recorded yet."""
    known = {"client_id": "lab-berlin", "round_id": 1, "version": "v2", "name": "default", **known}
    for path, calls in document["paths"].items():
        name = f"GET {path}"
        if "get" not in calls or name in recorder.examples or _is_binary(calls["get"]):
            continue
        about = {word: known[word] for word in re.findall(r"{(\w+)}", path)}
        if path.startswith("/teams/"):
            about["name"] = "Northern-Labs"
        by = "operator" if "security" in calls["get"] else None
        query = {"after": 0} if path == "/events" else None
        for media in calls["get"]["responses"]["200"]["content"]:
            if media != "text/html" and not media.startswith("application/vnd."):
                extra = {"format": "json"} if path.endswith("/export") and media == JSON else query
                recorder.call(name, by=by, headers={"Accept": media}, query=extra, **about)


def _is_binary(call: dict[str, Any]) -> bool:
    contents = call["responses"]["200"].get("content", {})
    return all(media.startswith("application/vnd.") for media in contents)


def without_secrets(text: str) -> str:
    """Return a text in which no key and no invitation is one."""
    return _SECRETS.sub(lambda found: found[1] + ("secret" * 9)[: len(found[2])], text)


def main() -> None:
    """Play the run and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        coordinator = open_coordinator(load_settings(data_dir=Path(folder), port=0, shutdown_seconds=0.2))
        try:
            coordinator.jobs.create(parse_job_text(JOB.format(name="default")))
            with serve_in_background(coordinator) as url:
                recorder = Recorder(url, operator_key=coordinator.data_dir.operator_key.read_text().strip())
                document = httpx2.get(f"{url}/openapi.json").json()
                known = play_training(recorder)
                play_community(recorder)
                known = play_operator(recorder, known)
                write_audit(recorder)
                ask_everything(recorder, document, known)
                recorder.close()
        finally:
            coordinator.close()
    TARGET.write_text(without_secrets(json.dumps(recorder.examples, indent=1, sort_keys=True)) + "\n")
    print(f"{TARGET.name}: {len(recorder.examples)} calls", file=sys.stderr)


if __name__ == "__main__":
    main()
