"""Logs are JSON, one line a request, and hold no keys."""

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.keys import new_key
from fed_compute.errors import SettingInvalid
from fed_compute.protocol.redaction import redact
from fed_compute.server.logs import AccessLog, configure_logging


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log into memory, and leave logging as it was."""
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    configure_logging("info", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@given(st.text(max_size=20), st.text(max_size=20))
def test_no_key_survives_redaction(before: str, after: str) -> None:
    key = new_key()
    assert key.secret not in redact(f"{before}{key.write()}{after}")


def test_a_piece_of_a_key_is_taken_out_and_words_that_only_look_like_one_stay() -> None:
    assert redact("key sk_abc, api_key=sk_0123") == "key sk_[redacted], api_key=sk_[redacted]"
    assert redact("task_id of task_assigned") == "task_id of task_assigned"


def test_a_request_is_one_line_without_its_query(lines: io.StringIO) -> None:
    app, key = FastAPI(), new_key().write()
    app.add_middleware(AccessLog)
    answer = TestClient(app).get(f"/task/{key}", params={"api_key": key})
    (line,) = lines.getvalue().splitlines()
    told = json.loads(line)
    assert (told["event"], told["method"], told["path"], told["status"]) == (
        "request",
        "GET",
        "/task/sk_[redacted]",
        404,
    )
    assert told["request_id"] == answer.headers["x-request-id"]
    assert key not in line
    assert "api_key" not in line


def test_an_unknown_level_is_refused_with_those_there_are() -> None:
    with pytest.raises(SettingInvalid, match="'loud', wanted one of debug, info"):
        configure_logging("loud")


def test_keys_are_taken_out_of_events_exceptions_and_foreign_records(lines: io.StringIO) -> None:
    key = f"{new_key().write()[:-1]}0"  # not a real one: pytest keeps what is logged, and a watch looks for real ones
    try:
        raise ValueError(key)
    except ValueError:
        structlog.get_logger().exception("failed", deep={"list": [key]}, **{"key": key})
        logging.getLogger("uvicorn.error").exception("failed with %s", key)
    assert len(lines.getvalue().splitlines()) == 2
    assert all(json.loads(line)["level"] == "error" for line in lines.getvalue().splitlines())
    assert key not in lines.getvalue()


class Full(io.StringIO):
    """A file on a disk without room."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_log_that_cannot_be_written_stops_nobody(lines: io.StringIO) -> None:
    """A background duty that fails because the disk is full must live to see the disk emptied."""
    configure_logging("info", stream=Full())
    structlog.get_logger("ours").error("duty_failed", duty="rounds")
    logging.getLogger("theirs").error("failed too")
