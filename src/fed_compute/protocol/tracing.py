"""Traces: what became of one task, step by step, on the client's machine and at the coordinator.

Off unless an owner switches it on for his own process, as logging is: then every step costs one look at a variable, and
no library of traces is imported. What crosses the wire is the header `traceparent` of W3C Trace Context and nothing
else: random numbers that let the two owners' stories be read as one. Each owner sends spans where he wishes.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, Protocol

from fed_compute.errors import ExtraMissing

HEADER = "traceparent"
Value = str | int | float | bool
Kind = Literal["internal", "client", "server"]
_NOTHING: Mapping[str, Value] = {}


class Span(Protocol):
    """One step, while it lasts."""

    def note(self, attributes: Mapping[str, Value]) -> None:
        """Add to what is told of the step."""
        ...

    def rename(self, name: str) -> None:
        """Give the step another name."""
        ...

    def fail(self, why: str) -> None:
        """Tell that the step failed. An exception that leaves it does so by itself."""
        ...

    def discard(self) -> None:
        """Do not tell of the step after all."""
        ...


class Tracer(Protocol):
    """Tells of steps."""

    def span(
        self, name: str, *, kind: Kind, parent: str | None, links: Iterable[str], attributes: Mapping[str, Value]
    ) -> AbstractContextManager[Span]:
        """Tell of a step that lasts as long as the block."""
        ...

    def current(self) -> str | None:
        """Return the present step of this thread as a `traceparent`."""
        ...

    def stop(self) -> None:
        """Send what is left to send, if that takes no longer than some seconds."""
        ...


class _NoSpan:
    def note(self, attributes: Mapping[str, Value]) -> None: ...

    def rename(self, name: str) -> None: ...

    def fail(self, why: str) -> None: ...

    def discard(self) -> None: ...


_NO_SPAN = _NoSpan()
_tracer: Tracer | None = None


@contextmanager
def told_by(service: str, *, wanted: bool) -> Iterator[None]:
    """While the block runs, tell of every step, as the standard variables `OTEL_…` say, if that is wanted at all.

    The service's name is `service` if they do not say. What is left in the end is sent, but not waited for for long.

    Raises:
        ExtraMissing: if OpenTelemetry is wanted and not installed.
    """
    if not wanted:
        yield
        return
    try:
        from fed_compute.protocol.otel import exporting_tracer
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="tracing", extra="otel") from error
    tracer = exporting_tracer(service)
    use(tracer)
    try:
        yield
    finally:
        use(None)
        tracer.stop()


def use(tracer: Tracer | None) -> None:
    """Let this process tell of its steps to `tracer`, or to nobody."""
    global _tracer
    _tracer = tracer


def is_on() -> bool:
    """Say whether anybody is told of steps."""
    return _tracer is not None


@contextmanager
def span(
    name: str,
    *,
    kind: Kind = "internal",
    parent: str | None = None,
    links: Iterable[str] = (),
    attributes: Mapping[str, Value] = _NOTHING,
) -> Iterator[Span]:
    """Tell of a step that lasts as long as the block, or the function, within the present one, or within `parent`.

    `parent` and `links` are written as `traceparent`; what cannot be read is left out: it may be a stranger's.
    """
    if _tracer is None:
        yield _NO_SPAN
        return
    with _tracer.span(name, kind=kind, parent=parent, links=links, attributes=attributes) as told:
        yield told


def current() -> str | None:
    """Return the present step of this thread as a `traceparent`, None if there is none or nobody is told."""
    return None if _tracer is None else _tracer.current()


def headers() -> dict[str, str]:
    """Return what a request has to bring so that its answer's steps belong to the present one."""
    step = current()
    return {} if step is None else {HEADER: step}
