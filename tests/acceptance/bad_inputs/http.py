"""What is wrong with a request as HTTP: its line, its headers, its length, its type."""

from collections.abc import Iterator

from fed_compute.protocol.messages import SAFETENSORS
from tests.acceptance.bad_inputs.case import JSON, Build, Case, case, get, post, put, request, say
from tests.acceptance.bad_inputs.stage import Stage

NO_REQUEST, TOO_LARGE = (400, "malformed_request"), (431, "headers_too_large")
NOT_FOUND, NO_METHOD, INVALID = (404, "not_found"), (405, "method_not_allowed"), (422, "invalid_request")
WRONG_TYPE = (415, "content_type_unsupported")
HELLO = b"GET /healthz HTTP/1.1\r\nHost: coordinator\r\n"
UPDATE = "/tasks/{task}/update"

METHODS = {
    "/": ["POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"],
    "/healthz": ["POST", "TRACE"],
    "/client/register": ["PUT", "DELETE", "PATCH", "OPTIONS"],
    "/task/{client}": ["POST", "PUT", "DELETE"],
    "/update": ["GET", "PUT", "PATCH", "HEAD"],
    UPDATE: ["GET", "POST", "DELETE"],
    "/tasks/{task}": ["GET", "PUT", "POST", "PATCH"],
    "/tasks/{task}/heartbeat": ["GET", "PUT"],
    "/model/v1": ["POST", "DELETE"],
    "/aggregate/1": ["POST", "PUT"],
    "/status/1": ["POST", "DELETE"],
    "/metrics": ["POST", "DELETE"],
    "/jobs": ["PUT", "DELETE", "PATCH"],
    "/events": ["POST"],
}

NOWHERE = [
    "/nowhere", "//", "/..", "/../..", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%00", "/%", "/%zz",
    "/%ff%fe", "/task", "/task/", "/tasks", "/tasks/", "/tasks/{task}/", "/jobs/", "/update/", "/UPDATE", "/metrics/",
    "/.env", "/.git/config", "/admin.php", "/cgi-bin/sh", "/api/v1/update", "/docs/../update", "/;/update",
    "/status", "/model/", "/aggregate/", "/tasks/{task}/update/more", "/tasks/a/b/c/d", "/" + "a" * 8_000,
    "/\x7f", "/?" + "a=b&" * 1_000,
]  # fmt: skip

NO_REQUESTS = {
    "nothing but a blank": b" \r\n\r\n",
    "a method alone": b"GET\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\n\r\n",
    "no version": b"GET /\r\nHost: x\r\n\r\n",
    "version 9.9": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "version 2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version in lower case": b"GET / http/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"FROB / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
    "a NUL in the path": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a tab for a space": b"GET\t/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path in Latin-1": b"GET /\xe9 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path in UTF-8": "GET /é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "a path in broken UTF-8": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "a mark before the method": b"\xef\xbb\xbfGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a TLS greeting": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(40) + b"\r\n\r\n",
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
    "zeros": bytes(64) + b"\r\n\r\n",
    "ones": b"\xff" * 64 + b"\r\n\r\n",
    "an answer": b"HTTP/1.1 200 OK\r\n\r\n",
    "a tunnel": b"CONNECT other:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a relative path": b"GET healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": HELLO + b"Host: other\r\n\r\n",
    "a header without a colon": HELLO + b"nonsense\r\n\r\n",
    "a header without a name": HELLO + b": x\r\n\r\n",
    "a header with a space in its name": HELLO + b"a b: x\r\n\r\n",
    "a header with a space before the colon": HELLO + b"a : x\r\n\r\n",
    "a header with a NUL in its name": HELLO + b"a\0b: x\r\n\r\n",
    "a header with a NUL in its value": HELLO + b"a: x\0y\r\n\r\n",
    "a header with a bell in its value": HELLO + b"a: x\x07y\r\n\r\n",
    "a header with a bare CR in its value": HELLO + b"a: x\ry\r\n\r\n",
    "a header in UTF-8 as its name": HELLO + "é: x\r\n\r\n".encode(),
}

LENGTHS = {
    "negative": "-1", "signed": "+5", "with an exponent": "1e3", "hexadecimal": "0x10", "fractional": "5.0",
    "in words": "five", "of two numbers": "5, 5", "of two other numbers": "5, 6", "with a space": "5 5",
    "beyond 64 bits": "18446744073709551616", "of thirty digits": "9" * 30, "of five thousand digits": "9" * 5_000,
}  # fmt: skip

CHUNKS = {
    "no number": b"zz\r\nabc\r\n0\r\n\r\n",
    "a negative number": b"-1\r\nabc\r\n0\r\n\r\n",
    "a number beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "nothing": b"\r\nabc\r\n0\r\n\r\n",
    "a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "too small a number": b"2\r\nabc\r\n0\r\n\r\n",
}

TYPES = [
    "text/plain", "application/octet-stream", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
    "application/problem+json", "text/json", "application/json; charset=utf-16", "application/json; a=b",
    "application/json, text/plain", "application/x-python-pickle", "json", "*/*", "",
]  # fmt: skip

UPLOAD_TYPES = [
    "application/octet-stream", "application/json", f"{SAFETENSORS}; charset=utf-8", f"{SAFETENSORS}+zstd",
    f"{SAFETENSORS}, {SAFETENSORS}", "application/x-safetensors", "application/zip", "application/x-tar",
    "application/vnd.pytorch", "application/partial-upload", "image/png", "",
]  # fmt: skip

CODINGS = ["gzip", "zstd", "br", "deflate", "identity", "compress", "gzip, gzip", "x"]
VERSIONS = ["0", "2", "3", "1.x", "one", "99999999", "-1", "1,1", "1;q=1", "१"]


def cases() -> Iterator[Case]:
    """Return every case of this class."""
    for path, methods in METHODS.items():
        for method in methods:
            yield case(f"{method} {path}", _bare(method, path), NO_METHOD)
    for path in NOWHERE:
        wanted = INVALID if path == "/tasks/{task}/" else NOT_FOUND
        if path.startswith("/?"):
            yield case("a path of nothing but questions", get("/nowhere" + path[1:]), NOT_FOUND)
        elif path == "/\x7f":
            yield case("a DEL in the path", get(path), NO_REQUEST, NOT_FOUND, may_hang_up=True)
        else:
            yield case(f"path {path[:60]}", get(path), wanted, NOT_FOUND)
    for name, data in NO_REQUESTS.items():
        yield case(f"no request: {name}", _exactly(data), NO_REQUEST, may_hang_up=True)
    yield from _heads()
    yield from _lengths()
    yield from _types()
    for version in VERSIONS:
        headers = (("Fed-Compute-Protocol", version.encode().decode("latin-1")),)
        yield case(
            f"protocol {version}", lambda _, h=headers: request("GET", "/", headers=h), (426, "protocol_unsupported")
        )


def _bare(method: str, path: str) -> Build:
    return lambda stage: request(method, stage.fill(path), key=stage.key)


def _exactly(data: bytes) -> Build:
    return lambda _: data


def _heads() -> Iterator[Case]:
    fields = {
        "a header of 64 KiB": b"a: " + b"x" * 65_536 + b"\r\n",
        "a header of a megabyte": b"a: " + b"x" * (1 << 20) + b"\r\n",
        "a header name of 64 KiB": b"x" * 65_536 + b": a\r\n",
        "a hundred headers more": b"".join(b"h%d: x\r\n" % number for number in range(100)),
        "ten thousand headers": b"".join(b"h%d: x\r\n" % number for number in range(10_000)),
        "ten thousand times the same header": b"a: x\r\n" * 10_000,
    }
    for name, text in fields.items():
        yield case(name, _exactly(HELLO + text + b"\r\n"), TOO_LARGE, may_hang_up=True)
    yield case("a header that never ends", _exactly(HELLO + b"a: " + b"x" * (2 << 20)), TOO_LARGE, may_hang_up=True)
    path = b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield case("a path of 64 KiB", _exactly(path), TOO_LARGE, may_hang_up=True)
    query = b"GET /healthz?" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield case("a query of a megabyte", _exactly(query), TOO_LARGE, may_hang_up=True)


def _lengths() -> Iterator[Case]:
    register = "/client/register"
    for name, text in LENGTHS.items():
        for method, path in (("POST", register), ("PUT", UPDATE)):
            yield case(
                f"{method} with a length {name}",
                lambda stage, m=method, p=path, t=text: request(
                    m, stage.fill(p), b"{}", key=stage.key, kind=JSON, headers=(("Content-Length", t),)
                ),
                NO_REQUEST,
                may_hang_up=True,
            )
    for name, length in (
        ("2^63", 2**63),
        ("2^62", 2**62),
        ("a terabyte", 10**12),
        ("one more than there may be", 65_537),
    ):
        headers = (("Content-Length", str(length)),)
        yield case(
            f"a small message announced with {name}", post(register, b"{}", headers=headers), (413, "body_too_large")
        )
        yield case(
            f"an upload announced with {name}",
            lambda stage, h=headers: _upload(stage, h),
            (413, "body_too_large"),
        )
    yield case(
        "an upload without a length",
        lambda stage: _upload(stage, (("X", "y"),), length=False),
        (411, "length_required"),
    )
    yield case(
        "an upload announced with 0",
        lambda stage: _upload(stage, (("Content-Length", "0"),)),
        (422, "update_malformed"),
    )
    yield case(
        "an upload announced one byte short",
        lambda stage: _off_by(stage, -1),
        (422, "update_malformed"),
        may_hang_up=True,
    )
    yield case("an upload that ends one byte short", lambda stage: _off_by(stage, 1), cut=True)
    yield case("an upload announced tenfold", lambda stage: _off_by(stage, 10_000), (413, "body_too_large"))
    yield case(
        "an upload that ends after its head", lambda stage: _upload(stage, (("Content-Length", "300"),)), cut=True
    )
    yield case(
        "an upload that ends in its header",
        lambda stage: _upload(stage, (("Content-Length", "300"),), b"1234567"),
        cut=True,
    )
    two = (("Content-Length", "2"), ("Content-Length", "3"))
    yield case("two different lengths", post(register, b"{}", headers=two), NO_REQUEST, may_hang_up=True)
    yield case("twice the same length", post(register, b"{}", headers=(two[0], two[0])), NO_REQUEST, may_hang_up=True)
    both = (("Content-Length", "2"), ("Transfer-Encoding", "chunked"))
    yield case(
        "a length and chunks", post(register, b"2\r\n{}\r\n0\r\n\r\n", headers=both), NO_REQUEST, may_hang_up=True
    )
    for coding in ("gzip", "chunked, gzip", "identity", "chunked, chunked", "xchunked"):
        headers = (("Transfer-Encoding", coding),)
        yield case(
            f"a transfer coding {coding}",
            post(register, b"2\r\n{}\r\n0\r\n\r\n", headers=headers),
            NO_REQUEST,
            may_hang_up=True,
        )
    for name, chunks in CHUNKS.items():
        headers = (("Transfer-Encoding", "chunked"),)
        yield case(
            f"a chunk announced with {name}", post(register, chunks, headers=headers), NO_REQUEST, may_hang_up=True
        )
    chunked = (("Transfer-Encoding", "chunked"),)
    yield case(
        "an upload in chunks", lambda stage: _upload(stage, chunked, b"1\r\nx\r\n0\r\n\r\n"), (411, "length_required")
    )
    many = b"10000\r\n" + b" " * 65_536 + b"\r\n1\r\n \r\n0\r\n\r\n"
    yield case("a message in chunks that is too long", post(register, many, headers=chunked), (413, "body_too_large"))
    yield case("a message that ends in the middle", post(register, b"{", headers=(("Content-Length", "20"),)), cut=True)
    yield case("a message of 64 KiB and one byte", post(register, b" " * 65_537), (413, "body_too_large"))


def _upload(stage: Stage, headers: tuple[tuple[str, str], ...], body: bytes = b"", *, length: bool = True) -> bytes:
    given = (("Content-Digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"), *headers)
    path = stage.fill(UPDATE)
    return request("PUT", path, body if length else None, key=stage.key, kind=SAFETENSORS, headers=given)


def _off_by(stage: Stage, more: int) -> bytes:
    holder = stage.holders["default"]
    body = holder.encode([0.5] * holder.num_parameters)
    return put(stage, body, changed={"Content-Length": str(len(body) + more)})


def _types() -> Iterator[Case]:
    messages = {
        "/client/register": say({"client_name": "stranger"}),
        "/update": say({"client_id": "{client}", "round_id": 1, "weight_delta": {}}),
        "/tasks/{task}/heartbeat": b"{}",
    }
    for path, body in messages.items():
        for kind in TYPES:
            yield case(f"POST {path} as {kind or 'an empty type'}", post(path, body, kind=kind), WRONG_TYPE)
        yield case(f"POST {path} without a type", post(path, body, kind=None), WRONG_TYPE)
        two = (("Content-Type", JSON),)
        yield case(f"POST {path} with two types", post(path, body, headers=two), WRONG_TYPE)
        for coding in CODINGS:
            headers = (("Content-Encoding", coding),)
            yield case(f"POST {path} coded {coding}", post(path, body, headers=headers), WRONG_TYPE)
    for kind in UPLOAD_TYPES:
        yield case(f"an upload as {kind or 'an empty type'}", _typed({"Content-Type": kind}), WRONG_TYPE)
    yield case("an upload without a type", _typed({"Content-Type": None}), WRONG_TYPE)
    for coding in CODINGS:
        yield case(f"an upload coded {coding}", _typed({"Content-Encoding": coding}), WRONG_TYPE)


def _typed(changed: dict[str, str | None]) -> Build:
    def build(stage: Stage) -> bytes:
        holder = stage.holders["default"]
        return put(stage, holder.encode([0.5] * holder.num_parameters), changed=changed)

    return build
