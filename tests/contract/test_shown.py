"""What pages ask of the repositories, on every database: numbers of the right kind, bounded, in the right order."""

from dataclasses import replace

from fed_compute.coordinator.courses import thinned
from fed_compute.ids import ClientId
from fed_compute.rounds.bookkeeping import account_of
from fed_compute.rounds.records import RoundState, TaskKind, TaskState
from fed_compute.storage.sql.sent import Sent
from fed_compute.storage.sql.store import Store
from tests.contract.samples import (
    NOW,
    add_job,
    add_update,
    client,
    evaluation_of,
    grant,
    round_of,
    task_of,
    update_of,
    version_of,
)

ANNA, BOB = ClientId("anna"), ClientId("bob")


def test_the_course_of_a_job_is_added_up_by_round_and_in_pages(store: Store) -> None:
    with store.transaction() as records:
        job, first = add_job(records, "anna", "bob")
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        second = records.rounds.add(round_of(job, number=2))
        for name, loss, samples in (("anna", 1.0, 30), ("bob", 3.0, 10)):
            task = replace(task_of(first, name), state=TaskState.REPORTED)
            records.tasks.add(task)
            records.updates.add(replace(update_of(task), loss=loss, num_samples=samples))
        measured = task_of(first, "bob", name="e_1", kind=TaskKind.EVALUATE)
        records.tasks.add(replace(measured, state=TaskState.REPORTED))
        records.evaluations.add_all([evaluation_of(measured, accuracy=0.25)])
    with store.snapshot() as records:
        points = records.curves.of_job(job.job_id, limit=5)
        older = records.curves.of_job(job.job_id, limit=5, before=second.round_id)
        assert records.curves.of_job(job.job_id, limit=1) == points[1:]
        assert records.curves.count_received_since(NOW, among=10) == 2
        assert records.curves.count_received_since(NOW + 1, among=10) == 0
    assert [point.number for point in points] == [1, 2]
    assert older == points[:1]
    assert (points[0].num_updates, points[0].num_samples, points[0].train_loss) == (2, 40, 1.5)
    assert (points[0].num_evaluations, points[0].loss, points[0].accuracy) == (1, 0.1, 0.25)
    assert (points[1].num_updates, points[1].train_loss, points[1].accuracy) == (0, None, None)
    assert thinned(points, most=1)[0].train_loss == 1.5


def test_what_a_client_sent_is_added_up_by_job_with_the_newest_first(store: Store) -> None:
    with store.transaction() as records:
        job, first = add_job(records, "anna", "bob")
        records.rounds.put(replace(first, state=RoundState.CLOSED))
        second = records.rounds.add(round_of(job, number=2))
        old = add_update(records, task_of(first, "anna", name="t_1"))
        new = add_update(records, task_of(second, "anna", name="t_2"))
        add_update(records, task_of(second, "bob", name="t_3"))
    with store.snapshot() as records:
        assert records.sent.by_job(ANNA) == [Sent(job.job_id, 2, old.size_bytes + new.size_bytes, NOW, NOW)]
        assert records.sent.newest(ANNA, limit=5) == [new, old]
        assert records.sent.newest(ANNA, limit=1) == [new]
        assert records.sent.by_job(ClientId("nobody")) == []


def test_versions_are_paged_newest_first(store: Store) -> None:
    with store.transaction() as records:
        job, _ = add_job(records)
        for number in (2, 3):
            records.versions.add(version_of(job.job_id, number))
    with store.snapshot() as records:
        assert [v.version for v in records.versions.page(job.job_id, limit=2)] == [3, 2]
        assert [v.version for v in records.versions.page(job.job_id, limit=2, before=2)] == [1]


def test_the_newest_entries_are_found_by_kind_client_and_job_within_bounds(store: Store) -> None:
    with store.transaction() as records:
        job, round_ = add_job(records)
        records.journal.append("a", at=NOW, client_id=ANNA)
        records.journal.append("b", at=NOW, client_id=ANNA, job_id=job.job_id, round_id=round_.round_id)
        records.journal.append("a", at=NOW, client_id=BOB, job_id=job.job_id, round_id=round_.round_id)
    with store.snapshot() as records:
        newest, seqs = records.journal.newest, [entry.seq for entry in records.journal.after(0)]
        assert [entry.seq for entry in newest(limit=2)] == seqs[:0:-1]
        assert [entry.seq for entry in newest(limit=5, kind="a")] == [seqs[2], seqs[0]]
        assert [entry.seq for entry in newest(limit=5, client_id=ANNA)] == [seqs[1], seqs[0]]
        assert [entry.seq for entry in newest(limit=5, job_id=job.job_id, below=seqs[2])] == [seqs[1]]
        assert [entry.seq for entry in newest(limit=5, above=seqs[0], without=["b"])] == [seqs[2]]
        assert [entry.kind for entry in records.journal.of_round(round_.round_id, kinds=["a"])] == ["a"]


def test_readers_tell_how_far_they_are(store: Store) -> None:
    with store.transaction() as records:
        records.journal.move_cursor("b", 3, {})
        records.journal.move_cursor("a", 5, {"x": 1})
    with store.snapshot() as records:
        assert records.journal.cursors() == {"a": 5, "b": 3}


def test_standings_and_balances_of_some_are_asked_for_together(store: Store) -> None:
    with store.transaction() as records:
        for name in ("anna", "bob"):
            records.clients.add(client(name))
            records.standings.put(name, {"of": name})
        grant(records, "one", "anna", micro_tokens=7)
    with store.snapshot() as records:
        assert records.standings.some(["bob", "nobody"]) == {"bob": {"of": "bob"}}
        assert records.standings.some([]) == {}
        assert len(records.standings.some([f"client-{number}" for number in range(2_500)] + ["anna"])) == 1
        assert records.ledger.balances([account_of(ANNA), account_of(BOB)]) == {account_of(ANNA): 7}
        assert records.ledger.balances([]) == {}
