"""What is guessed of a round's weights while it collects."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fed_compute.coordinator.weighing import Outlook, first_weight, weights_of
from fed_compute.ids import ClientId, UpdateId
from fed_compute.learning.aggregation.influence import ESTABLISHED_AFTER
from fed_compute.rounds.records import Job, Update
from tests.contract.samples import task_of, update_of
from tests.unit.coordinator.stand import Stand

SENT = st.lists(st.tuples(st.integers(1, 1_000), st.booleans()), min_size=1, max_size=8)


@pytest.fixture
def sample(stand: Stand) -> Update:
    """Somebody's update, to make others from."""
    stand.join("anna")
    return update_of(task_of(stand.lease("anna").round, "anna"))


def outlook_for(job: Job, updates: list[Update], counted: dict[ClientId, int]) -> Outlook:
    """Return what is thought of these updates, which came one by one."""
    outlook = Outlook(job, base_version=1)
    for update in updates:
        outlook.add([update], {update.client_id: counted[update.client_id]})
    return outlook


def named(sample: Update, number: int, num_samples: int) -> Update:
    """Return an update of another client."""
    return replace(sample, update_id=UpdateId(number), client_id=ClientId(f"client-{number}"), num_samples=num_samples)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=SENT)
def test_weights_by_samples_are_guessed_right_as_soon_as_somebody_is_established(
    stand: Stand, sample: Update, sent: list[tuple[int, bool]]
) -> None:
    job = stand.core.jobs.default()
    updates = [named(sample, number, samples) for number, (samples, _) in enumerate(sent, start=1)]
    counted = {
        update.client_id: ESTABLISHED_AFTER if known else ESTABLISHED_AFTER - 1
        for update, (_, known) in zip(updates, sent, strict=True)
    }
    outlook = outlook_for(job, updates, counted)
    first = [first_weight(job, update, base_version=1) for update in updates]
    if any(known for _, known in sent):
        stays = weights_of(job, updates, counted, base_version=1) == first
        assert outlook.keeps_first_weights() == stays


def test_a_round_of_newcomers_in_a_job_with_established_clients_is_expected_to_see_one_of_them(
    stand: Stand, sample: Update
) -> None:
    update = named(sample, 1, 10)
    outlook = outlook_for(stand.core.jobs.default(), [update], {update.client_id: 0})
    assert not outlook.keeps_first_weights()
