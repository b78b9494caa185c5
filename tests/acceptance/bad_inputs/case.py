"""What a case is, and how its request is written down byte by byte."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fed_compute.protocol.digests import format_content_digest, sha256_hex
from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.bad_inputs.stage import Stage

JSON = "application/json"
Wanted = tuple[int, str]
"""Status and code of the problem document."""

Build = Callable[[Stage], bytes]


@dataclass(frozen=True)
class Case:
    """One wrong request, and the refusals that are right for it.

    `may_hang_up` is for what is no request at all, or whose sender goes on sending after the refusal:
    the connection may then end without an answer. `cut` hangs up after sending, as a client that died.
    """

    name: str
    build: Build
    wanted: frozenset[Wanted]
    may_hang_up: bool = False
    cut: bool = False


def case(name: str, build: Build, *wanted: Wanted, may_hang_up: bool = False, cut: bool = False) -> Case:
    """Write a case."""
    return Case(name, build, frozenset(wanted), may_hang_up, cut)


def request(
    method: str,
    path: str,
    body: bytes | None = None,
    *,
    key: str | None = None,
    kind: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """Write a request. Headers are sent as they are given; `Content-Length` is added unless one is among them."""
    lines = [f"{method} {path} HTTP/1.1", "Host: coordinator"]
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    if kind is not None:
        lines.append(f"Content-Type: {kind}")
    names = {name.lower() for name, _ in headers}
    lines += [f"{name}: {value}" for name, value in headers]
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def get(path: str, *, key: bool = False) -> Build:
    """Build a GET; `path` may name things of the stage in braces."""
    return lambda stage: request("GET", stage.fill(path), key=stage.key if key else None)


def post(path: str, body: bytes, *, kind: str | None = JSON, **more: Any) -> Build:
    """Build a POST of a body by the member who holds a task."""
    return lambda stage: request("POST", stage.fill(path), body, key=stage.key, kind=kind, **more)


def say(message: Any) -> bytes:
    """Write a message as JSON."""
    return json.dumps(message).encode()


def put(stage: Stage, body: bytes, *, job: str = "default", changed: dict[str, str | None] | None = None) -> bytes:
    """Write the upload of a body to the live task of a job, with right headers but for those that are changed."""
    holder = stage.holders[job]
    right: dict[str, str | None] = {
        "Authorization": f"Bearer {holder.key}",
        "Content-Type": f"{SAFETENSORS}+zstd" if holder.compressed else SAFETENSORS,
        "Content-Digest": format_content_digest(sha256_hex(body)),
        **(changed or {}),
    }
    headers = tuple((name, value) for name, value in right.items() if value is not None)
    return request("PUT", f"/tasks/{holder.task_id}/update", body, headers=headers)
