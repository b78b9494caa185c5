"""Two coordinators on one database and one object store: each thing happens once, whoever of them does it."""

import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fed_compute.clock import ManualClock
from fed_compute.coordinator.data_dir import DataDir
from fed_compute.coordinator.invites import Terms
from fed_compute.coordinator.pipeline import Accepted
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.task_assigner import Assignment, NothingToDo
from fed_compute.coordinator.verify import verify, verify_data_dir
from fed_compute.coordinator.wiring import Coordinator, open_coordinator
from fed_compute.errors import (
    AuthenticationFailed,
    ClientBanned,
    ClientNameTaken,
    SettingInvalid,
    UpdateConflict,
)
from fed_compute.ids import ClientId, Digest
from fed_compute.protocol.job import parse_job_text
from fed_compute.protocol.updates import encode_update
from fed_compute.rounds.records import JobState, RoundState, TaskState
from tests.contract.conftest import Place
from tests.contract.crowd import at_once

PEPPER = "5e" * 32
ROUNDS = 3
JOB = f"""
name = "default"
[rounds]
total = {ROUNDS}
target_updates = 3
min_updates = 2
over_selection = 1
[aggregation]
server_optimizer = "adam"
"""

pytestmark = pytest.mark.parametrize("place", ["sqlite file", "postgresql"], indirect=True)


@pytest.fixture
def replicas(place: Place, s3_url: str, redis_url: str, tmp_path: Path) -> Iterator[tuple[Coordinator, Coordinator]]:
    """Two coordinators, each with a data folder and a clock of its own."""
    with ExitStack() as stack:
        pair = []
        for name in ("a", "b"):
            settings = load_settings(
                data_dir=tmp_path / name,
                database_url=place.url,
                blob_url=s3_url,
                rate_limit_url=redis_url,
                pepper=PEPPER,
            )
            pair.append(open_coordinator(settings, clock=ManualClock()))
            stack.callback(pair[-1].close)
        pair[0].jobs.create(parse_job_text(JOB))
        yield pair[0], pair[1]


def register(replica: Coordinator) -> tuple[ClientId, str]:
    """Register a client whose name no other test has: the rate limits are common to all."""
    return replica.auth.register(f"client-{secrets.token_hex(6)}")


def lease(replica: Coordinator, client_id: ClientId) -> Assignment:
    """Take the client's lease, which must be there to take."""
    assignment = replica.tasks.next_task(client_id, evaluates=False)
    assert isinstance(assignment, Assignment)
    return assignment


def lease_all_slots(replicas: tuple[Coordinator, Coordinator]) -> list[tuple[ClientId, str, Assignment]]:
    """Register as many clients as the round has slots, and give each a lease."""
    clients = [register(replicas[number % 2]) for number in range(3)]
    return [(client, key, lease(replicas[number % 2], client)) for number, (client, key) in enumerate(clients)]


def body_for(assignment: Assignment, *, seed: int) -> bytes:
    """Return an update as a client sends it."""
    schema = schema_of(assignment.job)
    return encode_update(
        np.random.default_rng(seed).normal(0, 0.01, schema.num_parameters).astype(np.float32),
        encoding="f32",
        compression="none",
        topk_fraction=1.0,
        schema_digest=schema.digest(),
        num_samples=10 + seed,
        loss=0.5,
        train_seconds=1.0,
        rng=np.random.default_rng(0),
    )


def send(replica: Coordinator, key: str, assignment: Assignment, body: bytes) -> Accepted:
    """Send an update through one of the coordinators."""
    task_id = assignment.task.task_id
    path = replica.blobs.incoming(f"{task_id}.{secrets.token_hex(4)}")
    admission = replica.pipeline.admit(key, task_id)
    path.write_bytes(body)
    return replica.pipeline.accept_file(admission, path, Digest(hashlib.sha256(body).hexdigest()))


def work_off(replicas: tuple[Coordinator, Coordinator]) -> None:
    """Let both coordinators do their duties at the same time until nothing is left to do."""
    while any(results := at_once([replica.worker.run_once for replica in replicas])):
        assert not [error for error in results if isinstance(error, Exception)], results


def assert_sound(replica: Coordinator) -> None:
    """Check every invariant."""
    assert verify(replica.store, replica.blobs).breaches == ()


def test_one_name_is_given_once(replicas: tuple[Coordinator, Coordinator]) -> None:
    name = f"anna-{secrets.token_hex(6)}"
    results = at_once([partial(replicas[number % 2].auth.register, name) for number in range(8)])
    keys = [result[1] for result in results if not isinstance(result, Exception)]
    assert len(keys) == 1
    assert [type(result) for result in results if isinstance(result, Exception)] == [ClientNameTaken] * 7
    assert replicas[0].auth.require_client(keys[0], name) == replicas[1].auth.require_client(keys[0], name) == name


def test_the_last_slots_go_to_as_many_clients(replicas: tuple[Coordinator, Coordinator]) -> None:
    clients = [register(replicas[number % 2])[0] for number in range(8)]
    asked = [partial(replicas[number % 2].tasks.next_task, client) for number, client in enumerate(clients)]
    results = at_once(asked)
    assert sorted(type(result).__name__ for result in results) == ["Assignment"] * 3 + ["NothingToDo"] * 5
    assert_sound(replicas[0])


def test_a_client_that_asks_everywhere_at_once_gets_one_lease(replicas: tuple[Coordinator, Coordinator]) -> None:
    client, _ = register(replicas[0])
    results = at_once([partial(replicas[number % 2].tasks.next_task, client) for number in range(8)])
    assert len({result.task.task_id for result in results if isinstance(result, Assignment)}) == 1
    assert all(isinstance(result, Assignment) for result in results)


def test_an_update_that_comes_everywhere_at_once_is_accepted_once(replicas: tuple[Coordinator, Coordinator]) -> None:
    client, key = register(replicas[0])
    assignment = lease(replicas[0], client)
    body = body_for(assignment, seed=1)
    results = at_once([partial(send, replicas[number % 2], key, assignment, body) for number in range(6)])
    accepted = [result for result in results if isinstance(result, Accepted)]
    assert sorted(result.repeated for result in accepted) == [False] + [True] * 5
    assert len({result.update.update_id for result in accepted}) == 1
    with pytest.raises(UpdateConflict):
        send(replicas[1], key, assignment, body_for(assignment, seed=2))
    assert_sound(replicas[1])


def test_of_two_different_updates_of_a_task_one_stands(replicas: tuple[Coordinator, Coordinator]) -> None:
    client, key = register(replicas[0])
    assignment = lease(replicas[1], client)
    acts = [partial(send, replicas[n % 2], key, assignment, body_for(assignment, seed=n)) for n in range(4)]
    results = at_once(acts)
    assert sorted(type(result).__name__ for result in results) == ["Accepted"] + ["UpdateConflict"] * 3
    assert_sound(replicas[0])


def test_a_heartbeat_never_brings_a_reported_lease_back(replicas: tuple[Coordinator, Coordinator]) -> None:
    for number, (client, key, assignment) in enumerate(lease_all_slots(replicas)):
        task_id, body = assignment.task.task_id, body_for(assignment, seed=number)
        beat = partial(replicas[1].tasks.heartbeat, client, task_id, progress=0.5)
        acts: list[Callable[[], object]] = [partial(send, replicas[0], key, assignment, body), beat, beat, beat]
        results = at_once(acts)
        assert not [error for error in results if isinstance(error, Exception)], results
        with replicas[1].store.snapshot() as records:
            assert records.tasks.get(task_id).state is TaskState.REPORTED
    assert_sound(replicas[0])


def test_workers_that_both_hold_a_round_publish_it_once(replicas: tuple[Coordinator, Coordinator]) -> None:
    for number, (_, key, assignment) in enumerate(lease_all_slots(replicas)):
        send(replicas[number % 2], key, assignment, body_for(assignment, seed=number))
    # The clocks differ by more than the worker's lease: each believes that the other's has run out.
    replicas[1].clock.sleep(3600)
    publish = [duty.run for replica in replicas for duty in replica.worker._duties if duty.name == "versions"]
    results = at_once(publish)
    assert not [error for error in results if isinstance(error, Exception)], results
    view = replicas[0].jobs.view(None)
    assert [version.version for version in view.versions] == [1, 2]
    assert [round_.state for round_ in view.rounds] == [RoundState.CLOSED, RoundState.OPEN]
    assert_sound(replicas[1])


def test_a_whole_job_over_two_coordinators_ends_sound(
    replicas: tuple[Coordinator, Coordinator], place: Place, s3_url: str
) -> None:
    clients = [register(replica) for replica in (*replicas, replicas[0])]
    for round_number in range(ROUNDS):
        for place_in_line, (client, key) in enumerate(clients):
            asked, told = replicas[place_in_line % 2], replicas[(place_in_line + round_number) % 2]
            found = asked.tasks.next_task(client)
            while isinstance(found, Assignment) and found.task.kind == "evaluate":
                told.evaluations.record(client, found.task.task_id, num_samples=10, loss=0.5, accuracy=0.9)
                found = told.tasks.next_task(client)
            assert isinstance(found, Assignment)
            send(told, key, found, body_for(found, seed=place_in_line))
        work_off(replicas)
    assert isinstance(replicas[1].tasks.next_task(clients[0][0], evaluates=False), NothingToDo)
    first, second = (replica.jobs.view(None) for replica in replicas)
    assert first == second
    assert (first.job.state, len(first.versions)) == (JobState.FINISHED, ROUNDS + 1)
    assert replicas[0].metrics.totals()["update_accepted"] == 3 * ROUNDS
    assert replicas[0].metrics.rounds() == replicas[1].metrics.rounds()
    assert replicas[0].incentives.holdings() == replicas[1].incentives.holdings()
    assert all(replicas[0].incentives.holdings().values())
    data_dir = replicas[1].data_dir.path
    report = verify_data_dir(data_dir, database_url=place.url, blob_url=s3_url)
    assert report.breaches == ()
    assert min(check.looked_at for check in report.checks) > 0


def test_what_one_replica_takes_away_opens_nothing_at_the_other(replicas: tuple[Coordinator, Coordinator]) -> None:
    """At the very next request: nothing is remembered of a key that was good."""
    first, second = replicas
    (anna, anna_key), (bob, bob_key) = register(first), register(second)
    for key, owner in ((anna_key, anna), (bob_key, bob)):
        for replica in replicas:
            assert replica.auth.require_client(key, owner) == owner
    first.keys.revoke(anna_key.split("_")[1], by="test")
    with pytest.raises(AuthenticationFailed):
        second.auth.require_client(anna_key, anna)
    assignment = lease(second, bob)
    first.clients.ban(bob, reason=None, with_invited=False, by="test")
    with pytest.raises(ClientBanned):
        second.auth.require_client(bob_key, bob)
    with second.store.snapshot() as records:
        assert records.tasks.get(assignment.task.task_id).state is TaskState.CANCELLED
    renewed = second.keys.rotate_client(anna, overlap_seconds=0, by="test").text
    assert first.auth.require_client(renewed, anna) == anna
    assert_sound(first)


def test_an_invitation_is_used_as_often_as_it_allows_at_all_replicas_together(
    replicas: tuple[Coordinator, Coordinator],
) -> None:
    text = replicas[0].invites.create(Terms(uses=2), by="test").text
    acts = [partial(replicas[n % 2].registrar.register, f"guest-{n}", invite=text) for n in range(6)]
    results = at_once(acts)
    assert sorted(type(result).__name__ for result in results) == ["InviteInvalid"] * 4 + ["Registered"] * 2


def test_replicas_share_the_operators_key(replicas: tuple[Coordinator, Coordinator]) -> None:
    key = replicas[0].data_dir.operator_key.read_text().strip()
    assert not replicas[1].data_dir.operator_key.exists()
    for replica in replicas:
        replica.auth.require_operator(key)


def test_a_replica_without_the_common_pepper_does_not_start(
    replicas: tuple[Coordinator, Coordinator], place: Place, tmp_path: Path
) -> None:
    with pytest.raises(SettingInvalid, match="FED_COMPUTE_PEPPER"):
        open_coordinator(load_settings(data_dir=tmp_path / "c", database_url=place.url))
    DataDir(tmp_path / "c").claim()  # and it has given its folder back
    replicas[0].auth.require_operator(replicas[0].data_dir.operator_key.read_text().strip())


@pytest.mark.parametrize("pepper", ["", "secret", "5e" * 31, "zz" * 32])
def test_a_pepper_that_is_too_short_is_refused_and_not_repeated(place: Place, tmp_path: Path, pepper: str) -> None:
    with pytest.raises(SettingInvalid) as refusal:
        open_coordinator(load_settings(data_dir=tmp_path / "c", database_url=place.url, pepper=pepper))
    assert "secret" not in refusal.value.message


def test_a_coordinator_alone_makes_the_operators_key_anew_when_its_file_is_gone(place: Place, tmp_path: Path) -> None:
    settings = load_settings(data_dir=tmp_path / "c", database_url=place.url)
    keys = []
    for _ in range(3):
        coordinator = open_coordinator(settings)
        keys.append(coordinator.data_dir.operator_key.read_text().strip())
        coordinator.auth.require_operator(keys[-1])
        coordinator.close()
        if len(keys) == 2:
            coordinator.data_dir.operator_key.unlink()
    assert keys[0] == keys[1] != keys[2]
