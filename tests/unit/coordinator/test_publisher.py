"""Closed rounds become versions: once, whoever folds, and never without an accepted update."""

import pytest

from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.publisher import LEASE_SECONDS, VersionPublisher
from fed_compute.errors import BlobCorrupt, BlobMissing
from fed_compute.ids import Digest, RoundId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import RoundState, UpdateState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for, body_of, tiny_job


def publisher_of(stand: Stand, worker: str) -> VersionPublisher:
    """Return a publisher as another worker has it: nothing is folded yet."""
    core = stand.core
    return VersionPublisher(core.store, core.blobs, core.rounds, clock=core.clock, worker=worker)


def report_all(stand: Stand, **values: float) -> None:
    """Let clients report, each one value, without any duty in between."""
    stand.join(*(name for name in values if name not in stand.keys))
    leases = {name: stand.lease(name) for name in values}
    for name, value in values.items():
        stand.send(name, leases[name], body_for(leases[name], value))


def test_a_version_names_what_it_was_made_from(stand: Stand) -> None:
    report_all(stand, anna=0.1, bob=0.3)
    stand.work()
    first, second = stand.versions()
    updates = stand.updates()
    assert (second.version, second.parent, second.round_id) == (2, 1, 1)
    assert (second.num_updates, second.num_samples, second.created_at) == (2, 20, stand.clock.now())
    assert read_manifest(second.manifest) == [(u.update_id, u.digest, u.num_samples) for u in updates]
    assert second.chain != first.chain
    assert stand.model(2)[0] - stand.model(1)[0] == pytest.approx(0.2)


def test_updates_are_folded_while_the_round_still_collects(stand: Stand) -> None:
    """So that the last update of a round does not wait for all the others."""
    stand.join("anna", "bob", "carl")
    publisher = publisher_of(stand, "w")
    stand.report("anna")
    assert publisher.advance()
    assert not publisher.advance()
    assert stand.round().state is RoundState.COLLECTING


def folded_after_each(stand: Stand, publisher: VersionPublisher, **values: float) -> list[bool]:
    """Let clients report, each one value; return after which of them the publisher found something to do."""
    done = []
    for name, value in values.items():
        report_all(stand, **{name: value})
        done.append(publisher.advance())
    return done


def stand_with_established(open_stand: OpenStand, rule: str, worker: str) -> tuple[Stand, VersionPublisher]:
    """Return a job whose rounds take 3 updates, of which anna, bob and carl have sent enough to be known."""
    stand = open_stand()
    section = {"rule": rule, "weighting": "samples"}
    stand.create(tiny_job(sections={"aggregation": section}, total=99, target_updates=3, min_updates=3))
    publisher = publisher_of(stand, worker)
    stand.join("anna", "bob", "carl", "dora", "emil")
    for number in range(ESTABLISHED_AFTER + 1):
        values = {"anna": 0.1, "bob": 0.2, "carl": 0.3}
        done = folded_after_each(stand, publisher, **{name: value + number / 100 for name, value in values.items()})
        assert done == [True, True, True]
    return stand, publisher


@pytest.mark.parametrize("rule", ["fedavg", "median"])
def test_bodies_are_read_once_though_newcomers_count_less_in_the_end(
    open_stand: OpenStand, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """Those of newcomers would be folded again, so they wait; what a file keeps can be weighed at any time."""
    stand, publisher = stand_with_established(open_stand, rule, "w")
    get, read = stand.core.blobs.get, list[Digest]()

    def noted(digest: Digest) -> bytes:
        read.append(digest)
        return get(digest)

    monkeypatch.setattr(stand.core.blobs, "get", noted)
    assert folded_after_each(stand, publisher, dora=0.3, anna=0.4, emil=0.5) == [rule == "median", True, True]
    version = stand.versions()[-1]
    manifest = read_manifest(version.manifest)
    assert [digest for digest in read if digest in {digest for _, digest, _ in manifest}] == [d for _, d, _ in manifest]
    assert [weight for _, _, weight in manifest] == ([1.25, 10.0, 1.25] if rule == "median" else [10.0, 1.25, 1.25])
    assert stand.breaches() == ()


def test_a_wrong_guess_about_weights_costs_a_second_fold_and_nothing_else(open_stand: OpenStand) -> None:
    """A worker that has just begun knows nobody yet."""
    stand, _ = stand_with_established(open_stand, "fedavg", "w")
    assert folded_after_each(stand, publisher_of(stand, "new"), dora=0.3, anna=0.4, emil=0.5) == [True, True, True]
    found = [(update_id, weight) for update_id, _, weight in read_manifest(stand.versions()[-1].manifest)]
    first = min(update_id for update_id, _ in found)
    assert found == [(first + 1, 10.0), (first, 1.25), (first + 2, 1.25)]
    assert stand.breaches() == ()


def test_a_worker_that_takes_over_makes_the_same_bytes(stand: Stand) -> None:
    """One folded as updates came and died; the next one folds all of them again."""
    stand.create(tiny_job("twin"))
    stand.join("anna", "bob", "carl", "dora")
    leases = {name: stand.lease(name, job=job) for name, job in zip(stand.keys, ("default", "twin") * 2, strict=True)}
    gone = publisher_of(stand, "gone")
    for name, value in (("anna", 0.1), ("bob", 0.1), ("carl", 0.7), ("dora", 0.7)):  # each job gets the same two
        stand.send(name, leases[name], body_of(leases[name], [value] * 3))
        if name in ("anna", "bob"):
            gone.advance()
    with stand.core.store.transaction() as records:  # it claimed the first job's round and was never heard of again
        assert records.rounds.claim(RoundId(1), worker="gone", now=stand.clock.now(), until=stand.clock.now() + 60)
    stand.clock.advance(LEASE_SECONDS + 1)
    assert publisher_of(stand, "next").advance()
    assert stand.versions(1)[-1].digest == stand.versions(2)[-1].digest


def test_a_round_that_another_worker_folds_is_left_to_it_until_its_lease_runs_out(stand: Stand) -> None:
    report_all(stand, anna=0.1, bob=0.3)
    with stand.core.store.transaction() as records:
        now = stand.clock.now()
        records.rounds.claim(RoundId(1), worker="other", now=now, until=now + LEASE_SECONDS)
    stand.work()
    assert stand.round().state is RoundState.AGGREGATING
    stand.clock.advance(LEASE_SECONDS + 1)
    stand.work()
    assert stand.round().state is RoundState.CLOSED


def test_a_result_that_cannot_be_used_abandons_the_round_and_keeps_the_old_version(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(sections={"aggregation": {"server_lr": 1e300}}))
    report_all(stand, anna=0.1, bob=0.3)
    stand.work()
    first, second = stand.rounds()
    assert (first.state, second.state, second.base_version) == (RoundState.ABANDONED, RoundState.OPEN, 1)
    assert "lower the server's learning rate" in str(first.reason)
    assert len(stand.versions()) == 1
    assert {update.state for update in stand.updates()} == {UpdateState.LATE}
    assert stand.breaches() == ()


@pytest.mark.parametrize("damage", ["missing", "corrupt"])
def test_no_version_is_made_without_an_accepted_update_whose_body_is_damaged(stand: Stand, damage: str) -> None:
    """Leaving it out would break the promise given to its sender; an operator has to look."""
    report_all(stand, anna=0.1, bob=0.3)
    digest = stand.updates()[0].digest
    body = stand.core.blobs.get(digest)
    path = stand.core.data_dir.blobs / digest[:2] / digest
    path.unlink() if damage == "missing" else path.write_bytes(body[:-1] + b"!")
    publisher = publisher_of(stand, "w")
    for _ in range(2):
        with pytest.raises((BlobMissing, BlobCorrupt), match=digest):
            publisher.advance()
    assert stand.round().state is RoundState.AGGREGATING
    path.write_bytes(body)  # put back from a copy
    assert publisher.advance()
    assert stand.versions()[-1].num_updates == 2


def test_the_damage_of_one_job_does_not_stop_the_others(stand: Stand) -> None:
    stand.create(tiny_job("other"))
    report_all(stand, anna=0.1, bob=0.3)
    stand.join("carl", "dora")
    for name in ("carl", "dora"):
        assignment = stand.lease(name, job="other")
        stand.send(name, assignment, body_for(assignment, 0.5))
    digest = stand.updates()[0].digest
    body = stand.core.blobs.get(digest)
    stand.core.blobs.remove(digest)
    with pytest.raises(BlobMissing, match=digest):
        publisher_of(stand, "w").advance()
    assert (stand.round(1).state, stand.round(2).state) == (RoundState.AGGREGATING, RoundState.CLOSED)
    stand.core.blobs.put(body)


def test_the_order_in_which_clients_report_does_not_change_the_version(stand: Stand) -> None:
    stand.create(tiny_job("twin"))
    values = {"anna": 0.1, "bob": 1 / 3}
    stand.join(*values)
    for job, order in (("default", ["anna", "bob"]), ("twin", ["bob", "anna"])):
        leases = {name: stand.lease(name, job=job) for name in values}
        for name in order:
            stand.send(name, leases[name], body_for(leases[name], values[name]))
        stand.work()
    assert stand.versions(1)[-1].digest == stand.versions(2)[-1].digest
