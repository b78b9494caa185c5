"""A reader sees every entry once and in order, whatever interrupts it."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.rounds.records import Entry
from fed_compute.storage.sql.store import Records
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand


def write(stand: Stand, count: int, *, first: int = 1) -> None:
    """Append numbered entries."""
    with stand.core.store.transaction() as records:
        for number in range(first, first + count):
            records.journal.append("counted", at=stand.clock.now(), number=number)


def note(records: Records, entry: Entry, payload: Payload, state: State) -> None:
    """Keep the numbers seen."""
    if entry.kind == "counted":
        state["seen"] = [*state.get("seen", []), payload["number"]]


def seen(stand: Stand, reader: str) -> list[int]:
    """Return what a reader has kept."""
    with stand.core.store.snapshot() as records:
        return list(records.journal.cursor(reader)[1].get("seen", []))


@settings(max_examples=settings().max_examples // 3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(portions=st.lists(st.integers(0, 7), max_size=6), batch=st.integers(1, 5))
def test_every_entry_is_seen_once_and_in_order(stand: Stand, portions: list[int], batch: int) -> None:
    reader = f"reader-{portions}-{batch}"[:40]
    with stand.core.store.transaction() as records:  # this reader begins here
        records.journal.move_cursor(reader, records.journal.last_seq(), {})
    for place, count in enumerate(portions):
        write(stand, count, first=1 + sum(portions[:place]))
        assert catch_up(stand.core.store, reader, note, batch=batch) == (count > 0)
    assert seen(stand, reader) == list(range(1, sum(portions) + 1))


def test_a_reader_that_fails_in_the_middle_goes_on_where_it_was(stand: Stand) -> None:
    write(stand, 10)
    broken = [7]

    def fail_at_seven(records: Records, entry: Entry, payload: Payload, state: State) -> None:
        if entry.kind == "counted" and payload["number"] in broken:
            raise OSError("no")
        note(records, entry, payload, state)

    with pytest.raises(OSError, match="no"):
        catch_up(stand.core.store, "reader", fail_at_seven, batch=4)
    part = seen(stand, "reader")
    assert part == list(range(1, len(part) + 1))
    assert len(part) < 7
    broken.clear()
    catch_up(stand.core.store, "reader", fail_at_seven, batch=4)
    assert seen(stand, "reader") == list(range(1, 11))


def test_what_a_reader_wrote_goes_with_its_cursor(stand: Stand) -> None:
    """Neither is kept without the other, so nothing is counted twice after a crash."""

    def write_then_fail(records: Records, entry: Entry, payload: Payload, state: State) -> None:
        records.standings.put("anna", {"n": 1})
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        catch_up(stand.core.store, "reader", write_then_fail)
    with stand.core.store.snapshot() as records:
        assert records.standings.get("anna") is None
        assert records.journal.cursor("reader") == (0, {})


def test_readers_do_not_disturb_each_other(stand: Stand) -> None:
    write(stand, 3)
    catch_up(stand.core.store, "one", note)
    write(stand, 2, first=4)
    catch_up(stand.core.store, "other", note)
    assert (seen(stand, "one"), seen(stand, "other")) == ([1, 2, 3], [1, 2, 3, 4, 5])


def test_the_hot_path_needs_no_reader(open_stand: OpenStand) -> None:
    """Metrics, reputation and incentives may be deleted: training goes on, and they can be made again."""
    stand = open_stand()
    stand.create()
    stand.join("anna", "bob")
    for name in ("anna", "bob"):
        stand.report(name)
    stand.work()
    kept = (stand.core.metrics.rounds(), stand.core.reputation.all(), stand.core.metrics.totals())
    with stand.core.store.transaction() as records:
        for projection in (records.standings, records.round_metrics):
            projection.clear()
        for reader in ("metrics", "reputation"):
            records.journal.move_cursor(reader, 0, {})
    assert (stand.core.metrics.rounds(), stand.core.reputation.all(), stand.core.metrics.totals()) == kept
    duties = [duty for duty in stand.core.worker._duties if duty.name in ("leases", "rounds", "versions")]
    for name in ("anna", "bob"):
        stand.report(name)
    while any([duty.run() for duty in duties]):
        pass
    assert len(stand.versions()) == 3
