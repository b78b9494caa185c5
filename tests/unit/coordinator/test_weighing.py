"""Whose updates wait for the end of a round, and so come last."""

from dataclasses import replace

import pytest

from fed_compute.coordinator.weighing import in_folding_order, newcomers
from fed_compute.ids import ClientId, UpdateId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Update
from tests.contract.samples import task_of, update_of
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, tiny_job


def updates_of(stand: Stand, *clients: str) -> list[Update]:
    """Return an update of each of these clients, in sequence."""
    stand.join("somebody")
    sample = update_of(task_of(stand.lease("somebody").round, "somebody"))
    return [
        replace(sample, update_id=UpdateId(number), client_id=ClientId(client))
        for number, client in enumerate(clients, start=1)
    ]


COUNTED = {ClientId("anna"): ESTABLISHED_AFTER, ClientId("bob"): ESTABLISHED_AFTER - 1, ClientId("carl"): 99}


@pytest.mark.parametrize(("rule", "order"), [("fedavg", [2, 4, 1, 3]), ("median", [1, 2, 3, 4])])
def test_newcomers_come_last_where_updates_are_folded_as_they_come(
    open_stand: OpenStand, rule: str, order: list[int]
) -> None:
    """Other rules see all updates at once."""
    stand = open_stand()
    stand.create(tiny_job(sections={"aggregation": {"rule": rule}}, target_updates=3, min_updates=3))
    updates = updates_of(stand, "bob", "carl", "emil", "anna")
    found = in_folding_order(stand.core.jobs.default(), updates, COUNTED)
    assert [update.update_id for update in found] == order


def test_newcomers_are_those_of_whom_the_job_has_counted_fewer_than_ten_updates(stand: Stand) -> None:
    assert newcomers(updates_of(stand, "anna", "bob", "carl", "emil"), COUNTED) == {"bob", "emil"}
