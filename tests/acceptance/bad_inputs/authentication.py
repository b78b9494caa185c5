"""What is wrong with a key: none, not one, another's, at the wrong place."""

from collections.abc import Iterator

from tests.acceptance.bad_inputs.case import JSON, Build, Case, case, request, say
from tests.acceptance.bad_inputs.messages import filled
from tests.acceptance.bad_inputs.stage import Stage

DENIED, INVALID, TOO_LARGE = (401, "authentication_failed"), (422, "invalid_request"), (431, "headers_too_large")

CALLS = {
    "GET /task": ("GET", "/task/{client}", None),
    "DELETE /tasks": ("DELETE", "/tasks/{task}", None),
    "PUT /update": ("PUT", "/tasks/{task}/update", b"x" * 300),
    "PATCH /update": ("PATCH", "/tasks/{task}/update", b"x" * 300),
    "POST heartbeat": ("POST", "/tasks/{task}/heartbeat", b"{}"),
    "POST /update": (
        "POST",
        "/update",
        say({"client_id": "holder-default", "round_id": 1, "weight_delta": filled(0.1)}),
    ),
    "POST /jobs": ("POST", "/jobs", say({"job": {"name": "mine"}})),
    "POST /jobs/default/stop": ("POST", "/jobs/default/stop", b""),
}
OPERATORS = ("POST /jobs", "POST /jobs/default/stop")


KEYS = {
    "no scheme": "{key}",
    "another scheme": "Basic {key}",
    "a digest scheme": 'Digest username="{client}"',
    "two schemes": "Bearer Bearer {key}",
    "no key": "Bearer",
    "an empty key": "Bearer ",
    "a word": "Bearer x",
    "the prefix": "Bearer sk_",
    "an unknown key": "Bearer sk_0000000000_" + "0" * 49,
    "a key of another case": "Bearer SK_0000000000_" + "0" * 49,
    "half the key": "Bearer {half}",
    "the key and more": "Bearer {key}0",
    "the key with a space in it": "Bearer {key} x",
    "the key with a changed end": "Bearer {changed}",
    "a key in quotes": 'Bearer "{key}"',
    "a key of 10 000 characters": "Bearer sk_" + "0" * 10_000,
    "Latin-1": "Bearer \xe9\xff",
    "SQL": "Bearer ' OR '1'='1",
    "a path": "Bearer ../../operator.key",
}


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for name, (method, path, body) in CALLS.items():
        yield case(f"{name} without a key", _with(method, path, body, None), DENIED)
        for what, text in KEYS.items():
            yield case(f"{name} with {what}", _with(method, path, body, text), DENIED)
    for name, (method, path, body) in CALLS.items():
        if name not in (*OPERATORS, "POST heartbeat"):
            wanted = (404, "client_not_found") if name in ("PUT /update", "PATCH /update") else DENIED
            yield case(f"{name} with an operator's key", _with(method, path, body, "Bearer {operator}"), wanted)
        if name != "POST /update":  # which takes the key of its body
            yield case(f"{name} with the key in the body", _with(method, path, b'{"api_key": "{key}"}', None), DENIED)
    yield case("GET /task with another's key", _with("GET", "/task/{client}", None, "Bearer {others_key}"), DENIED)
    for name in OPERATORS:
        method, path, body = CALLS[name]
        yield case(f"{name} with a client's key", _with(method, path, body, "Bearer {key}"), (403, "permission_denied"))
    for text in ("x", "sk_", "sk_0000000000_" + "0" * 49, "{others_key}", "{operator}", "%00", "%FF", ""):
        yield case(
            f"GET /task with the query key {text[:20]!r}",
            _with("GET", "/task/{client}?api_key=" + text, None, None),
            DENIED,
        )
    yield case(
        "GET /task with a query key too long", _with("GET", "/task/{client}?api_key=" + "x" * 201, None, None), INVALID
    )
    for text in ("x", "sk_", "sk_0000000000_" + "0" * 49, "{others_key}", "{operator}"):
        yield case(f"POST /update with the body key {text[:20]!r}", _in_body(text), DENIED)
    for value in (7, None, True, [], {}):
        yield case(f"POST /update with the body key {value!r}", _in_body(value), DENIED)
    huge = "Bearer sk_" + "0" * (1 << 20)
    yield case(
        "GET /task with a key of a megabyte", _with("GET", "/task/{client}", None, huge), TOO_LARGE, may_hang_up=True
    )


def _with(method: str, path: str, body: bytes | None, authorization: str | None) -> Build:
    def build(stage: Stage) -> bytes:
        key = stage.key
        stage_names = {"half": key[:20], "changed": key[:-1] + ("0" if key[-1] != "0" else "1")}
        text = stage.fill(authorization or "")
        for name, value in stage_names.items():
            text = text.replace(f"{{{name}}}", value)
        headers = (("Upload-Offset", "0"),) if method == "PATCH" else ()
        headers += () if authorization is None else (("Authorization", text),)
        sent = None if body is None else stage.fill(body.decode("latin-1")).encode("latin-1")
        return request(method, stage.fill(path), sent, kind=None if body is None else JSON, headers=headers)

    return build


def _in_body(key: object) -> Build:
    def build(stage: Stage) -> bytes:
        said = stage.fill(key) if isinstance(key, str) else key
        message = {"client_id": stage.names["client"], "round_id": 1, "weight_delta": filled(0.1), "api_key": said}
        return request("POST", "/update", say(message), kind=JSON)

    return build
