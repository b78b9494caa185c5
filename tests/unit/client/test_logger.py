"""Structured logs without keys."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.logger import configure_logging
from fed_compute.client.observer import LogObserver
from fed_compute.protocol.redaction import redact_event

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just("a sk_ab12_S3cret-x_y b"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    yield stream
    structlog.reset_defaults()


def test_an_event_is_one_json_line_with_its_fields(log: io.StringIO) -> None:
    LogObserver().event("update_accepted", round_id=3, loss=0.5)
    line = json.loads(log.getvalue())
    assert (line["event"], line["level"], line["round_id"], line["loss"]) == ("update_accepted", "info", 3, 0.5)
    assert line["timestamp"].endswith("Z")


def test_progress_is_not_logged(log: io.StringIO) -> None:
    """It comes with every batch."""
    LogObserver().event("progress", fraction=0.5)
    assert log.getvalue() == ""


def test_a_key_never_reaches_the_log_not_even_in_an_exception(log: io.StringIO) -> None:
    try:
        raise ValueError("bad key sk_ab12_S3cret")
    except ValueError:
        structlog.get_logger().exception("failed", url="http://x/?api_key=sk_ab12_S3cret", seen={"sk_ab12_S3cret": 1})
    assert "S3cret" not in log.getvalue()
    assert log.getvalue().count("sk_[redacted]") >= 3


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_keys_are_redacted_however_deep_they_are(fields: dict[str, object]) -> None:
    assert "S3cret" not in str(redact_event(None, "info", {"event": "x", **fields}))


def test_the_console_style_is_text_for_people() -> None:
    stream = io.StringIO()
    configure_logging("console", stream=stream)
    structlog.get_logger().info("hello", key="sk_ab12_S3cret")
    structlog.reset_defaults()
    assert "hello" in stream.getvalue()
    assert "S3cret" not in stream.getvalue()
