"""Requests are counted by what the server knows of them, never by what a stranger chose."""

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from fed_compute.server.instruments import Instruments
from fed_compute.server.traffic import CountRequests


async def echo(request: Request) -> Response:
    """Return what came."""
    return PlainTextResponse(await request.body())


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Break before any answer."""
    raise OSError("gone")


def told(instruments: Instruments) -> dict[str, float]:
    """Return every value, by name and label values."""
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in instruments.collect()
        for sample in family.samples
    }


def ask(counted: CountRequests, path: str, *, method: str = "GET", body: bytes = b"") -> list[Message]:
    """Send one request through the layer and return what came back."""
    answer: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        answer.append(message)

    scope: Scope = {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": [],
        "root_path": "", "http_version": "1.1", "scheme": "http", "server": ("x", 80), "client": ("y", 1),
    }  # fmt: skip
    anyio.run(counted, scope, receive, send)
    return answer


@pytest.fixture
def instruments() -> Instruments:
    """Fresh ones."""
    return Instruments()


def test_a_request_is_counted_under_what_was_made_of_it(instruments: Instruments) -> None:
    routed = CountRequests(Starlette(routes=[Route("/clients/{name}", echo, methods=["POST"])]), instruments)
    for name in ("anna", "bob"):
        ask(routed, f"/clients/{name}", method="POST", body=b"12345")
    found = told(instruments)
    routes = {name.split()[-2] for name in found if name.startswith("fed_compute_http_requests_total")}
    assert len(routes) == 1
    (route,) = routes
    assert found[f"fed_compute_http_requests_total POST {route} 200"] == 2
    assert found[f"fed_compute_http_request_duration_seconds_count POST {route}"] == 2
    assert found[f"fed_compute_http_request_bytes_total {route}"] == 10
    assert found[f"fed_compute_http_response_bytes_total {route}"] == 10
    assert found["fed_compute_http_requests_in_flight"] == 0
    assert not any("anna" in name or "bob" in name for name in found)


def test_paths_and_methods_that_do_not_exist_make_no_series_of_their_own(instruments: Instruments) -> None:
    routed = CountRequests(Starlette(), instruments)
    for number in range(20):
        ask(routed, f"/nowhere/{number}", method=f"METHOD{number}")
    found = {name: value for name, value in told(instruments).items() if "requests_total" in name}
    assert found == {"fed_compute_http_requests_total other (none) 404": 20}


def test_a_request_that_was_never_answered_is_counted_as_cut_off(instruments: Instruments) -> None:
    with pytest.raises(OSError, match="gone"):
        ask(CountRequests(fail, instruments), "/")
    found = told(instruments)
    assert found["fed_compute_http_requests_total GET (none) 499"] == 1
    assert found["fed_compute_http_requests_in_flight"] == 0
