"""The requests of the wire, as clients and operators write them."""

import json
from typing import Any

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.job import Compression
from fed_compute.protocol.messages import PROTOCOL_HEADER, SAFETENSORS, SAFETENSORS_ZSTD
from tests.fault.simulated.exchange import Request

PROTOCOL = {PROTOCOL_HEADER.lower(): "1"}


def bearer(key: str) -> dict[str, str]:
    """Return the headers of somebody who speaks the present protocol and has a key."""
    return {**PROTOCOL, "authorization": f"Bearer {key}"}


def post(path: str, document: dict[str, Any], headers: dict[str, str]) -> Request:
    """Send a JSON document."""
    body = json.dumps(document).encode()
    return Request("POST", path, headers={**headers, "content-type": "application/json"}, body=body)


def register(name: str) -> Request:
    """Ask for a key."""
    return post("/client/register", {"client_name": name}, PROTOCOL)


def ask(name: str, key: str, *, is_modern: bool = True) -> Request:
    """Ask for a task; the first clients sent no protocol header."""
    headers = bearer(key) if is_modern else {"authorization": f"Bearer {key}"}
    return Request("GET", f"/task/{name}", headers=headers)


def put_update(task_id: str, key: str, body: bytes, compression: Compression = "none") -> Request:
    """Send a whole update."""
    kind = SAFETENSORS_ZSTD if compression == "zstd" else SAFETENSORS
    headers = {**bearer(key), "content-type": kind, "content-digest": format_content_digest(sha256_hex(body))}
    return Request("PUT", f"/tasks/{task_id}/update", headers=headers, body=body)


def ask_offset(task_id: str, key: str) -> Request:
    """Ask how much of an update has come."""
    return Request("HEAD", f"/tasks/{task_id}/update", headers=bearer(key))


def send_rest(task_id: str, key: str, body: bytes, *, offset: int) -> Request:
    """Send the last piece of an update."""
    headers = {
        **bearer(key),
        "content-type": "application/partial-upload",
        "content-digest": format_content_digest(sha256_hex(body)),
        "upload-offset": str(offset),
        "upload-complete": "?1",
    }
    return Request("PATCH", f"/tasks/{task_id}/update", headers=headers, body=body[offset:])


def post_update(name: str, key: str, round_id: int, delta: list[Any], num_samples: int) -> Request:
    """Send an update as the first clients did."""
    values = {"weight_delta": json.dumps(delta), "num_samples": num_samples}
    return post("/update", {"client_id": name, "round_id": round_id, "api_key": key, **values}, {})


def heartbeat(task_id: str, key: str, progress: float) -> Request:
    """Keep a lease alive."""
    return post(f"/tasks/{task_id}/heartbeat", {"progress": progress}, bearer(key))


def evaluate(task_id: str, key: str) -> Request:
    """Report a measurement."""
    return post(f"/tasks/{task_id}/evaluation", {"num_samples": 10, "loss": 1.0, "accuracy": 0.5}, bearer(key))


def release(task_id: str, key: str) -> Request:
    """Give a lease back."""
    return Request("DELETE", f"/tasks/{task_id}", headers=bearer(key))


def get_model(version: str) -> Request:
    """Fetch a model file."""
    return Request("GET", f"/model/{version}", headers={**PROTOCOL, "accept": SAFETENSORS})


def close_round(round_id: int, key: str) -> Request:
    """Close a round early, as an operator."""
    return Request("GET", f"/aggregate/{round_id}", headers=bearer(key))


def steer(job: str, act: str, key: str) -> Request:
    """Pause, resume or stop a job, as an operator."""
    return Request("POST", f"/jobs/{job}/{act}", headers=bearer(key))


def ban(name: str, key: str) -> Request:
    """Shut a client out, as an operator."""
    return Request("POST", f"/admin/clients/{name}/ban", headers=bearer(key))


def unban(name: str, key: str) -> Request:
    """Let a client in again, as an operator."""
    return Request("POST", f"/admin/clients/{name}/unban", headers=bearer(key))
