"""Somebody else holds on to the database."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fed_compute.coordinator.data_dir import DATABASE
from tests.fault.campaign import altered
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, Session, session

TIMEOUT_SECONDS = 40.0
"""Clients wait longer for an answer than the coordinator waits for the lock."""


def locked_databases(ground: Ground, count: int, *, busy_seconds: float = 10.0) -> Outcome:
    """Another process writes for longer than the coordinator waits: clients are told to come back, and do."""
    program = (altered.__file__, "--busy-seconds", f"{busy_seconds}")
    with session("database", ground, program=program, timeout_seconds=TIMEOUT_SECONDS) as running:
        for number in range(count):
            running.until_acknowledged()
            if number % 2:
                with _held(running, "BEGIN"):
                    running.goes_on(rounds=2)
                running.struck("read for long")
            else:
                while not _is_told_of_a_lock(running, more_seconds=ground.rng.uniform(0.0, busy_seconds)):
                    running.goes_on(rounds=1)  # it fell on a round that was closing: nobody had anything to write
                running.struck("locked")
                running.goes_on(rounds=1)
    return running.outcome


def _is_told_of_a_lock(running: Session, *, more_seconds: float) -> bool:
    """Lock the database until a client was told 503, and for some seconds more; say whether one was."""
    before = _num_told(running)
    with _held(running, "BEGIN IMMEDIATE"):
        running.until(partial(_is_noticed, running, before), "somebody is told of the lock")
        time.sleep(more_seconds)
    return _num_told(running) > before


@contextmanager
def _held(running: Session, begin: str) -> Iterator[None]:
    """Keep a transaction open for as long as the block runs."""
    connection = sqlite3.connect(
        Path(running.server.data_dir) / DATABASE, isolation_level=None, timeout=TIMEOUT_SECONDS
    )
    try:
        connection.execute(begin)
        connection.execute("SELECT count(*) FROM journal").fetchone()
        yield
        connection.execute("ROLLBACK")
    finally:
        connection.close()


def _is_noticed(running: Session, before: int) -> bool:
    """Say whether a client was told 503, or a round waits to be closed: then none has anything to write."""
    return _num_told(running) > before or running.server.is_closing_a_round()


def _num_told(running: Session) -> int:
    return sum(client.memory.answers[503] for client in running.clients)
