"""A coordinator is put together from settings, or says why not and leaves nothing behind."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from fed_compute.clock import SystemClock
from fed_compute.coordinator.data_dir import DataDir
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.errors import (
    AuthenticationFailed,
    DataDirInUse,
    RateLimited,
    SchemaUnsupported,
    SettingInvalid,
    UpdateNormTooLarge,
)
from fed_compute.rounds.records import RoundState
from tests.unit.coordinator.conftest import OpenStand
from tests.unit.coordinator.stand import Stand, body_for

LONG = 30.0
"""Far longer than any test: whoever waits so long is woken before."""


def operator_key(stand: Stand) -> str:
    """Return the key that lies in the data folder."""
    return stand.core.data_dir.operator_key.read_text().strip()


def test_the_first_start_makes_an_operators_key_that_only_its_owner_can_read(open_stand: OpenStand) -> None:
    stand = open_stand()
    stand.core.auth.require_operator(operator_key(stand))
    assert stat.S_IMODE(stand.core.data_dir.operator_key.stat().st_mode) == 0o600


def test_a_restart_keeps_the_operators_key(durable: Stand) -> None:
    key = operator_key(durable)
    durable.restart()
    assert operator_key(durable) == key
    durable.core.auth.require_operator(key)


def test_a_lost_operators_key_is_made_anew_and_the_lost_one_opens_nothing(durable: Stand) -> None:
    lost = operator_key(durable)
    durable.core.data_dir.operator_key.unlink()
    durable.restart()
    durable.core.auth.require_operator(operator_key(durable))
    with pytest.raises(AuthenticationFailed):
        durable.core.auth.require_operator(lost)


def test_a_lost_pepper_stops_the_start_and_putting_it_back_helps(durable: Stand) -> None:
    """A new pepper would make every key worthless without a word."""
    pepper = durable.core.data_dir.pepper_file
    text = pepper.read_text()
    pepper.unlink()
    with pytest.raises(SettingInvalid, match="FED_COMPUTE_PEPPER"):
        durable.restart()
    pepper.write_text(text)
    durable.restart()
    durable.core.auth.require_operator(operator_key(durable))


def test_two_coordinators_never_work_on_one_folder(open_stand: OpenStand) -> None:
    open_stand("data")
    with pytest.raises(DataDirInUse):
        open_stand("data")


@pytest.mark.parametrize(
    "unusable",
    [
        {"database_url": "mysql://host/db"},
        {"rate_limit_url": "nowhere"},
        {"pepper": "short"},
        {"blob_url": "ftp://x"},
        {"blob_url": "process://"},  # records would outlive their updates
    ],
    ids=lambda unusable: "-".join(*unusable.items()),
)
def test_a_start_that_fails_gives_the_folder_back(tmp_path: Path, unusable: dict[str, str]) -> None:
    with pytest.raises(SettingInvalid) as failure:
        open_coordinator(load_settings(data_dir=tmp_path, **unusable))
    folder = DataDir(tmp_path)
    folder.claim()
    folder.release()
    assert failure.tb is not None  # kept until here, and with it everything that the start had opened


def test_data_of_a_newer_version_is_left_alone(durable: Stand) -> None:
    folder = durable.core.data_dir.path

    def set_schema(name: str) -> None:
        with closing(sqlite3.connect(folder / "coordinator.sqlite3")) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (name,))

    with closing(sqlite3.connect(folder / "coordinator.sqlite3")) as connection:
        (known,) = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    set_schema("9999")
    with pytest.raises(SchemaUnsupported, match="9999"):
        durable.restart()
    set_schema(known)
    durable.restart()


def test_the_settings_reach_the_parts(open_stand: OpenStand) -> None:
    stand = open_stand(heartbeat_seconds=4.0, active_seconds=5.0, max_update_norm=0.5, updates_per_minute=3)
    stand.create()
    stand.join("anna", "bob")
    assignment = stand.lease("anna")
    assert assignment.task.deadline == stand.clock.now() + 12
    with pytest.raises(UpdateNormTooLarge):
        stand.send("anna", assignment, body_for(assignment, 0.3))
    stand.send("anna", assignment, body_for(assignment, 0.2))
    stand.clock.advance(6)
    stand.work()
    assert stand.round().state is RoundState.CLOSED  # bob counts as gone after five seconds
    stand.send("anna", assignment, body_for(assignment, 0.2))
    with pytest.raises(RateLimited):
        stand.send("anna", assignment, body_for(assignment, 0.2))


def test_without_another_word_time_is_that_of_the_machine(tmp_path: Path) -> None:
    coordinator = open_coordinator(load_settings(data_dir=tmp_path))
    assert isinstance(coordinator.clock, SystemClock)
    coordinator.close()


def test_every_duty_has_a_name_of_its_own_and_may_be_run_at_any_time(stand: Stand) -> None:
    duties = [*stand.core.worker._duties, *stand.core.slow_worker._duties]
    assert len({duty.name for duty in duties}) == len(duties) == 11
    for duty in (*duties, *reversed(duties)):
        duty.run()


def test_a_started_coordinator_closes_a_round_by_itself(durable: Stand) -> None:
    durable.join("anna", "bob")
    durable.core.start()
    for name in ("anna", "bob"):
        durable.report(name)
    bell = durable.core.bell
    seen = bell.rings()
    while durable.round().state is not RoundState.CLOSED:
        news = bell.wait(seen, timeout_seconds=LONG)
        assert news != seen, f"nothing happened; failing: {durable.core.worker.failing()}"
        seen = news
    assert durable.core.worker.failing() == {}
    assert durable.versions()[-1].num_updates == 2


def test_starting_gives_clients_time_to_be_heard_again(durable: Stand) -> None:
    durable.join("anna")
    assignment = durable.lease("anna")
    durable.clock.advance(60)
    durable.core.start()
    assert durable.task(assignment).deadline == durable.clock.now() + 30
