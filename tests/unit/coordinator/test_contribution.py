"""Contributions: measured once for each published round, from the stored updates, with nobody waiting."""

import json

import numpy as np
import pytest

from fed_compute.coordinator.contribution import ContributionReader
from fed_compute.errors import ContributionUnavailable, RoundNotFound
from fed_compute.ids import JobId, RoundId
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_of, tiny_job

PUBLISHED = {"anna": (1, 0, 0), "bob": (0.8, 0.6, 0), "carl": (-1, 0, 0)}
"""The published example of CGSV, in three dimensions."""


def play(stand: Stand, deltas: dict[str, tuple[float, ...]]) -> int:
    """Let each client send its update in one round, and close it; return the round's number."""
    leases = {name: stand.lease(name) for name in deltas}
    for name, delta in deltas.items():
        stand.send(name, leases[name], body_of(leases[name], delta))
    stand.work()
    return int(next(iter(leases.values())).task.round_id)


@pytest.fixture
def crowd(open_stand: OpenStand) -> Stand:
    """A coordinator whose rounds take three updates."""
    stand = open_stand()
    stand.create(tiny_job(target_updates=3, min_updates=3, total=30))
    stand.join(*PUBLISHED)
    return stand


def test_the_first_round_is_that_of_the_published_example(crowd: Stand) -> None:
    views = crowd.core.contributions.of_round(play(crowd, PUBLISHED))
    assert [view.part.client_id for view in views] == ["anna", "bob", "carl"]
    assert [view.part.cosine for view in views] == pytest.approx([0.8, 1.0, -0.8], abs=1e-6)
    assert [view.part.share for view in views] == pytest.approx([0.43956, 0.54945, 0.01099], abs=1e-5)
    assert [view.shapley for view in views] == [None] * 3


def test_whoever_points_away_from_the_others_is_seen(crowd: Stand) -> None:
    views = crowd.core.contributions.of_round(play(crowd, PUBLISHED))
    to_others = [view.part.to_others for view in views]
    assert to_others == pytest.approx([-1 / 10**0.5, 0.0, -3 / 10**0.5], abs=1e-5)
    assert views[2].leave_one_out < 0.2 < views[1].leave_one_out


def test_the_exact_value_is_worked_out_when_asked_for(crowd: Stand) -> None:
    views = crowd.core.contributions.of_round(play(crowd, PUBLISHED), exact=True)
    shapley = [view.shapley for view in views]
    assert sum(value for value in shapley if value is not None) == pytest.approx(1.0)
    assert np.argsort(shapley).tolist() == np.argsort([view.part.cosine for view in views]).tolist()


def test_the_share_remembers_former_rounds(crowd: Stand) -> None:
    play(crowd, PUBLISHED)
    views = crowd.core.contributions.of_round(play(crowd, {**PUBLISHED, "carl": (2, 0, 0)}))
    (carl,) = (view for view in views if view.part.client_id == "carl")
    assert carl.part.cosine > 0.9
    assert carl.part.share < 0.2


def test_a_round_is_measured_once_and_the_journal_says_so(crowd: Stand) -> None:
    round_id = play(crowd, PUBLISHED)
    crowd.work()
    assert not crowd.core.contributions.catch_up()
    (entry,) = crowd.journal("contribution_measured")
    assert (entry.round_id, json.loads(entry.payload)) == (round_id, {"num_clients": 3})


def test_a_reader_that_begins_anew_measures_nothing_twice(crowd: Stand) -> None:
    round_id = play(crowd, PUBLISHED)
    before = crowd.core.contributions.of_round(round_id)
    with crowd.core.store.transaction() as records:
        records.journal.move_cursor("contribution", 0, {})
    crowd.work()
    assert crowd.core.contributions.of_round(round_id) == before
    assert len(crowd.journal("contribution_measured")) == 1


def test_when_all_was_forgotten_it_is_measured_again_to_the_same_numbers(crowd: Stand) -> None:
    round_ids = [play(crowd, PUBLISHED), play(crowd, {**PUBLISHED, "carl": (1, 1, 0)})]
    before = [crowd.core.contributions.of_round(round_id) for round_id in round_ids]
    with crowd.core.store.transaction() as records:
        records.journal.move_cursor("contribution", 0, {})
        records.round_contributions.clear()
        records.importances.clear()
    crowd.work()
    assert [crowd.core.contributions.of_round(round_id) for round_id in round_ids] == before


def test_two_readers_on_one_database_measure_each_round_once(crowd: Stand) -> None:
    leases = {name: crowd.lease(name) for name in PUBLISHED}
    for name, delta in PUBLISHED.items():
        crowd.send(name, leases[name], body_of(leases[name], delta))
    while crowd.core.worker.run_once():
        pass
    readers = [ContributionReader(crowd.core.store, crowd.core.blobs) for _ in range(2)]
    assert [reader.catch_up() for reader in readers] == [True, False]
    assert len(crowd.journal("contribution_measured")) == 1


@pytest.mark.parametrize("encoding", ["bf16", "int8", "topk"])
def test_updates_of_every_encoding_are_read(open_stand: OpenStand, encoding: str) -> None:
    stand = open_stand()
    wire = {"encoding": encoding, "compression": "zstd", "topk_fraction": 1.0}
    stand.create(tiny_job(target_updates=3, min_updates=3, sections={"wire": wire}))
    stand.join(*PUBLISHED)
    views = stand.core.contributions.of_round(play(stand, PUBLISHED))
    assert [view.part.cosine for view in views] == pytest.approx([0.8, 1.0, -0.8], abs=0.02)


def test_a_damaged_update_leaves_its_round_unmeasured_and_the_next_one_is_measured(crowd: Stand) -> None:
    leases = {name: crowd.lease(name) for name in PUBLISHED}
    for name, delta in PUBLISHED.items():
        crowd.send(name, leases[name], body_of(leases[name], delta))
    while crowd.core.worker.run_once():
        pass
    crowd.core.blobs.remove(crowd.updates(1)[0].digest)
    crowd.work()
    with pytest.raises(ContributionUnavailable, match="damaged"):
        crowd.core.contributions.of_round(1)
    other = {name: (x + 3, y, z) for name, (x, y, z) in PUBLISHED.items()}
    assert len(crowd.core.contributions.of_round(play(crowd, other))) == 3


def test_the_only_update_of_a_round_says_nothing_of_its_client(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=1))
    stand.join("anna")
    (view,) = stand.core.contributions.of_round(play(stand, {"anna": (1, 0, 0)}))
    assert (view.part.cosine, view.part.to_others) == (1.0, None)
    assert stand.core.reputation.of("anna").parts["utility"].reasons == []


def test_a_round_without_a_result_cannot_be_measured(crowd: Stand) -> None:
    crowd.lease("anna")
    with pytest.raises(ContributionUnavailable, match="COLLECTING"):
        crowd.core.contributions.of_round(1)
    with pytest.raises(RoundNotFound):
        crowd.core.contributions.of_round(99)


def test_the_exact_value_is_refused_for_a_crowd(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.create(tiny_job(target_updates=9, min_updates=9))
    names = [f"c{number}" for number in range(9)]
    stand.join(*names)
    round_id = play(stand, {name: (1, number, 0) for number, name in enumerate(names)})
    assert len(stand.core.contributions.of_round(round_id)) == 9
    with pytest.raises(ContributionUnavailable, match="at most 8"):
        stand.core.contributions.of_round(round_id, exact=True)


def test_contributions_move_utility_and_nothing_else(crowd: Stand) -> None:
    play(crowd, PUBLISHED)
    scores = {r.client_id: r.parts["utility"].score for r in crowd.core.reputation.all()}
    assert scores["bob"] == 0.5 > scores["anna"] > scores["carl"]
    assert len({r.parts["integrity"].score for r in crowd.core.reputation.all()}) == 1
    (reason,) = crowd.core.reputation.of("carl").parts["utility"].reasons
    assert (reason.event, reason.round_id) == ("contribution_measured", 1)


def test_importance_is_kept_for_each_job(crowd: Stand) -> None:
    play(crowd, PUBLISHED)
    with crowd.core.store.snapshot() as records:
        assert set(records.importances.of_job(JobId(1), PUBLISHED)) == set(PUBLISHED)
        assert records.importances.of_job(JobId(2), PUBLISHED) == {}
        assert records.round_contributions.get(RoundId(1)) is not None
