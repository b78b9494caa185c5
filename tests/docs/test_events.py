"""The table of events is what the journal holds."""

import pytest

from fed_compute.rounds.events import EVENTS
from fed_compute.rounds.records import TaskState
from fed_compute.rounds.steering import Act
from tests.architecture.source import parse
from tests.docs.journal_calls import entries_written, of_module

TABLE = {kind.name: kind for kind in EVENTS}


VALUES = {"task_*": TaskState, "job_*": Act}
"""What the `*` of a kind stands for: those of the values that the table has."""


def kinds_of(written: str) -> set[str]:
    """Return what an entry may be called."""
    if "*" not in written:
        return {written}
    return {written.replace("*", value) for value in VALUES.get(written, ())} & TABLE.keys()


def test_every_entry_that_is_written_is_in_the_table() -> None:
    assert len(entries_written()) > 20
    missing = {
        written.where: written.kind for written in entries_written() if not kinds_of(written.kind) & TABLE.keys()
    }
    assert missing == {}, "add the kind to rounds/events.py: what happened, and its fields"


def test_the_table_holds_no_kind_that_is_never_written() -> None:
    written = set().union(*(kinds_of(one.kind) for one in entries_written()))
    assert sorted(TABLE.keys() - written) == []


@pytest.mark.parametrize("name", TABLE)
def test_the_table_names_the_fields_of_each_kind(name: str) -> None:
    places = [one for one in entries_written() if name in kinds_of(one.kind)]
    shown = set().union(*(one.fields for one in places))
    assert sorted(shown - set(TABLE[name].fields)) == []
    if not any(one.is_open for one in places):
        assert sorted(set(TABLE[name].fields) - shown) == []


def test_each_kind_is_told_once_in_a_sentence() -> None:
    assert len(TABLE) == len(EVENTS)
    assert [kind.name for kind in EVENTS if not kind.meaning[0].isupper() or not kind.meaning.endswith(".")] == []
    assert {kind.subject for kind in EVENTS} >= {"job", "round", "task", "update", "client", "key"}


def test_entries_are_found_through_functions_of_functions() -> None:
    text = (
        "def a(r, kind, *, by, **more):\n    r.journal.append(kind, at=1, by=by, **more)\n"
        "class B:\n    def c(self, r, what):\n        a(r, what, by=1, size=2)\n"
        "    def d(self, r):\n        self.c(r, 'one')\n        a(r, kind=f'task_{x}', by=2)\n"
        "        r.journal.append('two', at=1, client_id=2, **y)\n"
    )
    found = {(one.kind, tuple(sorted(one.fields)), one.is_open) for one in of_module(parse(text))}
    assert found == {("one", ("by", "size"), False), ("task_*", ("by",), False), ("two", (), True)}


def test_a_kind_that_cannot_be_read_is_an_error() -> None:
    with pytest.raises(AssertionError, match="no reader can tell"):
        list(of_module(parse("def a(r):\n    r.journal.append(names[0], at=1)")))
