"""How the coordinator is called: tries and pauses, limits on what is read, and what each answer means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, TypeVar

import httpx2
from pydantic import BaseModel, ValidationError

from fed_compute.client.answers import error_of, printable
from fed_compute.client.backoff import Backoff
from fed_compute.client.request_ids import note_answer, note_no_answer
from fed_compute.clock import SystemClock
from fed_compute.errors import AnswerUnusable, CoordinatorUnreachable, NotNow, SettingInvalid
from fed_compute.protocol import tracing
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION

LONGEST_RETRY_SECONDS = 30.0
"""A call never pauses longer than this between its tries; longer waits are the caller's to make."""

SHORT_TIMEOUT = httpx2.Timeout(10.0)
"""Of calls that are made once, and whose answer a client that leaves would wait for."""

_MAX_JSON_BYTES = 64 << 10
_PIECES_AFTER_STOP = 8
"""So many reads more may an answer take once the client has to stop; the answer to giving a lease back takes one."""

_TIMEOUT = httpx2.Timeout(30.0, connect=10.0, write=60.0)
SLEEP = SystemClock().sleep
_AnswerT = TypeVar("_AnswerT", bound=BaseModel)
_ResultT = TypeVar("_ResultT")


@dataclass(frozen=True, slots=True)
class Reply:
    """A 2xx answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def read(self, answer: type[_AnswerT]) -> _AnswerT:
        """Return the body as a message.

        Raises:
            AnswerUnusable: if it is none.
        """
        try:
            return answer.model_validate_json(self.body)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in problem["loc"])
            raise unusable(
                f"the answer with status {self.status} is not a {answer.__name__}: "
                f"{printable(where[:200])} {problem['msg']}; "
                "is COORDINATOR_URL the address of a fed-compute coordinator?"
            ) from error


class Calls:
    """Calls to one coordinator, with retries as `CoordinatorApi` promises them."""

    def __init__(
        self,
        base_url: str,
        *,
        max_retries: int,
        backoff: Backoff,
        before_try: Callable[[], None],
        pause: Callable[[float], None],
        give_up: Callable[[], bool],
        transport: httpx2.BaseTransport | None,
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
        self.backoff = backoff
        self._before_try = before_try
        self._pause = pause
        self.give_up = give_up

    def authenticate(self, api_key: str) -> None:
        """Use this key from now on."""
        self._http.headers["Authorization"] = f"Bearer {api_key}"

    def close(self) -> None:
        """Close all connections; the object is then of no more use."""
        self._http.close()

    def send(self, method: str, path: str, **request: Any) -> Reply:
        """Make one call, as often as it takes."""
        return self.retrying(lambda: self.once(method, path, **request))

    def retrying(self, call: Callable[[], _ResultT]) -> _ResultT:
        """Return what `call` returns, after as many tries and pauses as are allowed."""
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

    def once(self, method: str, path: str, *, max_bytes: int = _MAX_JSON_BYTES, **request: Any) -> Reply:
        """Make one try of a call; return a 2xx answer or raise what it means."""
        self._before_try()
        headers = {**request.pop("headers", {}), **tracing.headers()}
        try:
            with self._http.stream(method, path, headers=headers, **request) as response:
                note_answer(response.headers)
                reply = Reply(response.status_code, response.headers, self._body(response, max_bytes))
        except httpx2.RequestError as error:
            note_no_answer()
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
            pieces_after_stop += self.give_up()
            if not response.is_success and len(body) >= _MAX_JSON_BYTES:
                break
            if len(body) > max_bytes:
                raise unusable(f"the answer to {response.request.url.path} is longer than {max_bytes} bytes")
            if pieces_after_stop > _PIECES_AFTER_STOP:
                raise unusable(f"the answer to {response.request.url.path} had not ended when the client had to stop")
        return bytes(body)


def unusable(message: str) -> AnswerUnusable:
    """Return the error for an answer that cannot be the coordinator's."""
    return AnswerUnusable(message, retry_after_seconds=0.0)
