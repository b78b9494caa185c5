"""The live feed over connections that break: each entry once, in order, and no endless trying where nobody is."""

import json
from collections.abc import Callable, Iterator
from itertools import islice

import httpx2
import pytest

from fed_compute.cli.event_feed import EventFeed
from fed_compute.clock import ManualClock
from fed_compute.errors import AnswerUnusable, CallRefused, CoordinatorBusy, CoordinatorUnreachable

Answer = Callable[[httpx2.Request], httpx2.Response]


def sent(*numbers: int) -> bytes:
    """Return entries as a coordinator sends them, with its signs of life between."""
    lines = [f": ping\r\n\r\nid: {n}\r\nevent: x\r\ndata: {json.dumps({'seq': n})}\r\n\r\n" for n in numbers]
    return "".join(lines).encode()


class Breaking(httpx2.SyncByteStream):
    """A body after which the connection breaks."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body
        raise httpx2.ReadError("cut")


class Script:
    """A coordinator that gives one answer after another, and notes what it was asked."""

    def __init__(self, *answers: httpx2.Response | httpx2.TransportError) -> None:
        self._answers = iter(answers)
        self.asked: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        answer = next(self._answers)
        if isinstance(answer, httpx2.TransportError):
            raise answer
        return answer


def feed_of(script: Script, clock: ManualClock | None = None) -> EventFeed:
    return EventFeed("http://c", clock or ManualClock(), transport=httpx2.MockTransport(script))


def test_a_broken_connection_goes_on_after_the_last_entry_that_came() -> None:
    clock = ManualClock()
    script = Script(
        httpx2.Response(200, stream=Breaking(sent(4, 5) + b"id: 6\r\n")),
        httpx2.ConnectError("nobody"),
        httpx2.Response(503, headers={"Retry-After": "7"}, json={"code": "storage_busy", "detail": "later"}),
        httpx2.Response(200, content=sent(6)),
        httpx2.Response(200, content=sent(7)),
    )
    began = clock.monotonic()
    entries = list(islice(feed_of(script, clock).entries(follow=True, last=2, since=None), 4))
    assert [entry["seq"] for entry in entries] == [4, 5, 6, 7]
    asked = [request.headers.get("last-event-id") for request in script.asked]
    assert asked == [None, "5", "5", "5", "6"]
    assert clock.monotonic() - began >= 7, "it waits as long as it is told"
    assert dict(script.asked[0].url.params) == {"last": "2", "follow": "true"}


def test_an_entry_whose_end_never_came_is_asked_for_again() -> None:
    """Its id had come, its data had not."""
    script = Script(
        httpx2.Response(200, stream=Breaking(sent(4) + b"id: 5\r\nevent: x\r\n")),
        httpx2.Response(200, content=sent(5)),
    )
    entries = list(islice(feed_of(script).entries(follow=True), 2))
    assert [entry["seq"] for entry in entries] == [4, 5]
    assert script.asked[1].headers["last-event-id"] == "4"


def test_without_following_it_ends_with_the_answer() -> None:
    script = Script(httpx2.Response(200, content=sent(1, 2)))
    assert [entry["seq"] for entry in feed_of(script).entries(follow=False)] == [1, 2]


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx2.ConnectError("nobody"), CoordinatorUnreachable),
        (httpx2.Response(429, json={"code": "rate_limited", "detail": "slowly"}), CoordinatorBusy),
        (httpx2.Response(404, json={"code": "job_not_found", "detail": "none"}), CallRefused),
        (httpx2.Response(200, content=b"data: <html>\n\n"), AnswerUnusable),
        (httpx2.Response(200, content=b"data: [1]\n\n"), AnswerUnusable),
    ],
)
def test_what_is_wrong_from_the_first_call_on_is_told_and_not_tried_for_ever(
    answer: httpx2.Response | httpx2.TransportError, error: type[Exception], follow: bool
) -> None:
    with pytest.raises(error):
        list(feed_of(Script(answer, answer)).entries(follow=follow))
