"""The journal and its readers: each entry is seen once and in order, however many write and read at once."""

import json
from collections.abc import Callable
from functools import partial

import pytest

from fed_compute.clock import ManualClock
from fed_compute.coordinator.incentives import IncentiveManager
from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.coordinator.metrics import MetricsCollector
from fed_compute.ids import RoundId
from fed_compute.rounds.bookkeeping import MINT, account_of
from fed_compute.rounds.records import Entry
from fed_compute.rounds.rewards import RewardRules
from fed_compute.storage.sql.store import Records, Store
from tests.contract.crowd import at_once
from tests.contract.samples import NOW, client, grant

WRITERS, ENTRIES = 4, 25


def write_entries(store: Store, writer: int) -> None:
    """Write entries in transactions of one, two and three of them."""
    written = 0
    while written < ENTRIES:
        with store.transaction() as records:
            for _ in range(min(1 + written % 3, ENTRIES - written)):
                records.journal.append("written", at=NOW, writer=writer, number=written)
                written += 1


def follow(store: Store, finished: list[int]) -> list[Entry]:
    """Read on from a cursor until all writers have finished and nothing more comes."""
    seen: list[Entry] = []
    while True:
        is_last_look = len(finished) == WRITERS
        with store.snapshot() as records:
            entries = records.journal.after(seen[-1].seq if seen else 0, limit=7)
        seen += entries
        if is_last_look and not entries:
            return seen


def test_who_follows_with_a_cursor_misses_nothing_that_is_written_meanwhile(stores: tuple[Store, Store]) -> None:
    finished: list[int] = []

    def write(writer: int) -> None:
        try:
            write_entries(stores[writer % 2], writer)
        finally:
            finished.append(writer)

    acts: list[Callable[[], object]] = [partial(write, writer) for writer in range(WRITERS)]
    acts += [partial(follow, store, finished) for store in stores]
    results = at_once(acts)
    for seen in results[WRITERS:]:
        assert isinstance(seen, list), seen
        payloads = [json.loads(entry.payload) for entry in seen]
        for writer in range(WRITERS):
            assert [p["number"] for p in payloads if p["writer"] == writer] == list(range(ENTRIES))


def test_entries_have_the_order_of_the_commits(stores: tuple[Store, Store]) -> None:
    for number in range(6):
        with stores[number % 2].transaction() as records:
            records.journal.append("a", at=NOW, round_id=RoundId(number % 3))
            records.journal.append("b", at=NOW)
    with stores[0].snapshot() as records:
        entries = records.journal.after(0)
        assert [entry.kind for entry in entries] == ["a", "b"] * 6
        assert records.journal.after(entries[3].seq, limit=2) == entries[4:6]
        assert records.journal.of_round(RoundId(1)) == [entries[2], entries[8]]
        assert records.journal.last_seq() == entries[-1].seq


def test_a_cursor_comes_back_with_its_state(store: Store) -> None:
    with store.transaction() as records:
        assert records.journal.cursor("reader") == (0, {})
        records.journal.move_cursor("reader", 3, {"n": 1})
        records.journal.move_cursor("other", 9, {})
        records.journal.move_cursor("reader", 5, {"n": 2})
    with store.snapshot() as records:
        assert records.journal.cursor("reader") == (5, {"n": 2})


def test_what_is_no_json_is_not_written(store: Store) -> None:
    with pytest.raises(ValueError, match="JSON"), store.transaction() as records:
        records.journal.append("x", at=NOW, loss=float("nan"))
    with store.snapshot() as records:
        assert records.journal.last_seq() == 0


def test_readers_of_one_name_fold_each_entry_once_between_them(stores: tuple[Store, Store]) -> None:
    def count(_records: Records, _entry: Entry, payload: Payload, state: State) -> None:
        key = f"{payload['writer']}:{payload['number']}"
        state[key] = state.get(key, 0) + 1

    acts: list[Callable[[], object]] = [partial(write_entries, stores[n % 2], n) for n in range(2)]
    acts += [partial(catch_up, stores[n % 2], "counter", count, batch=5) for n in range(4)]
    assert not [result for result in at_once(acts) if isinstance(result, Exception)]
    catch_up(stores[0], "counter", count)
    with stores[1].snapshot() as records:
        _, state = records.journal.cursor("counter")
    assert state == {f"{writer}:{number}": 1 for writer in range(2) for number in range(ENTRIES)}


def test_collectors_on_two_replicas_count_each_event_once(stores: tuple[Store, Store]) -> None:
    collectors = [MetricsCollector(store) for store in stores]
    for writer in range(4):
        write_entries(stores[writer % 2], writer)
    assert len(at_once([collectors[number % 2].totals for number in range(6)])) == 6
    assert collectors[0].totals() == collectors[1].totals() == {"written": 4 * ENTRIES}


def test_a_reader_that_fails_has_moved_nowhere(store: Store) -> None:
    write_entries(store, 0)

    def fail(records: Records, entry: Entry, _payload: Payload, _state: State) -> None:
        records.standings.put("anna", {})
        if entry.seq > 10:
            raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError, match="in the middle"):
        catch_up(store, "reader", fail)
    with store.snapshot() as records:
        assert records.journal.cursor("reader") == (0, {})
        assert records.standings.all() == {}


def test_one_key_is_paid_once_however_many_ask_at_the_same_moment(stores: tuple[Store, Store]) -> None:
    def pay(store: Store) -> bool:
        with store.transaction() as records:
            return grant(records, "update:1:base", "anna", micro_tokens=5)

    with stores[0].transaction() as records:
        records.clients.add(client("anna"))
    paid = at_once([partial(pay, stores[number % 2]) for number in range(8)])
    assert sorted(paid, key=str) == [False] * 7 + [True]
    with stores[1].snapshot() as records:
        assert records.ledger.balances() == {MINT: -5, account_of(client("anna").client_id): 5}
    rules = RewardRules(base_tokens=1, speed_threshold_seconds=1, consistency_threshold=1)
    assert IncentiveManager(stores[1], ManualClock(), rules).of("anna").holding.micro_tokens == 5


def append_and_fail(records: Records) -> None:
    """Append an entry, and one that cannot be written."""
    records.journal.append("undone", at=NOW)
    records.journal.append("impossible", at=NOW, number=float("nan"))


def test_what_was_committed_is_told_with_its_numbers_and_what_was_undone_is_not(store: Store) -> None:
    """The log tells what has happened."""
    told: list[Entry] = []
    store.on_entries(told.extend)
    with store.transaction() as records:
        records.journal.append("first", at=NOW, round_id=RoundId(7), number=1)
        records.journal.append("second", at=NOW)
    with pytest.raises(ValueError, match="JSON"), store.transaction() as records:
        append_and_fail(records)
    with store.snapshot() as records:
        assert told == records.journal.after(0)
    assert [entry.kind for entry in told] == ["first", "second"]
