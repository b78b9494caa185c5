"""The journal in the log: short lines, and no commit fails for them."""

import io
import json
from collections.abc import Iterator

import pytest
import structlog

from fed_compute.client.logger import configure_logging
from fed_compute.coordinator.journal_log import JournalLog
from fed_compute.ids import JobId
from fed_compute.rounds.records import Entry
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Store


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    configure_logging("json", stream=stream)
    yield stream
    structlog.reset_defaults()


def entry(job_id: int | None = None, **payload: object) -> Entry:
    job = None if job_id is None else JobId(job_id)
    return Entry(5, 0.0, "happened", job, None, None, None, json.dumps(payload))


def test_numbers_and_words_are_told_and_long_findings_are_not(log: io.StringIO) -> None:
    store = Store(open_database("sqlite://"))
    JournalLog(store).write([entry(version=3, reason="why", weights=[0.1, 0.9], event="other", missing=None)])
    store.close()
    line = json.loads(log.getvalue())
    del line["timestamp"]
    assert line == {"event": "happened", "level": "info", "seq": 5, "version": 3, "reason": "why"}


def test_records_that_cannot_be_read_cost_a_line_the_jobs_name_and_nothing_else(log: io.StringIO) -> None:
    """What is told is committed already: its sender must not hear that it failed."""
    without_tables = Store(open_database("sqlite://"))
    JournalLog(without_tables).write([entry(job_id=1)])
    without_tables.close()
    unknown, told = (json.loads(line) for line in log.getvalue().splitlines())
    assert (unknown["event"], unknown["job_id"]) == ("job_name_unknown", 1)
    assert (told["event"], told.get("job")) == ("happened", None)
