"""A client dies at every step that reaches its disk or its coordinator, and the next one loses nothing.

What is checked is what the coordinator has in the end: the very bytes of a client that never died, each update once.
"""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from fed_compute.client.departures import read_sent, sent_folder
from fed_compute.client.trainer import set_threads
from fed_compute.protocol.digests import sha256_hex
from tests.unit.client.fake_coordinator import FakeCoordinator
from tests.unit.client.fragile_disk import DiedError, FragileDisk
from tests.unit.client.recipes import blobs, recipe_for
from tests.unit.client.volunteer import Volunteer, volunteer_at

TASKS = 2
RECIPE = recipe_for(encoding="topk", compression="zstd", training={"local_epochs": 3, "momentum": 0.9})
DATA = blobs(60)
STEPS = 58


class WatchedCoordinator(FakeCoordinator):
    """Counts the arrival of each request and the departure of each answer as steps of the client."""

    def watch(self, disk: FragileDisk, state_dir: Path) -> None:
        self.disk, self.state_dir = disk, state_dir

    def handle(self, request: httpx2.Request) -> httpx2.Response:
        self.disk.step()
        if request.method in ("PUT", "PATCH"):
            logged = {one.sha256 for one in read_sent(sent_folder(self.state_dir)).departures}
            assert sha256_hex(request.content) in logged, "it left before it was written down"
        answer = super().handle(request)
        self.disk.step()
        return answer


def volunteer(coordinator: FakeCoordinator, state_dir: Path) -> Volunteer:
    """Return a client whose batches take a second, so that each is followed by a checkpoint."""
    client = volunteer_at(coordinator, state_dir, data=DATA, client_name="me", client_checkpoint_seconds=0)
    client.watcher.on = lambda name, fields: client.clock.advance(1) if name == "progress" else None
    return client


def live(coordinator: WatchedCoordinator, state_dir: Path, **how: Any) -> tuple[FragileDisk, bool]:
    """Let a client run until the job is done or it dies; say which."""
    with pytest.MonkeyPatch.context() as patch:
        disk = FragileDisk(patch, **how)
        coordinator.watch(disk, state_dir)
        client = volunteer(coordinator, state_dir)
        try:
            client.run(until_finished=True)
        except DiedError:
            died = True
        else:
            died = False
    client.client.close()  # as the system does with what a dead process held
    return disk, died


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, int]:
    """The model after all tasks of a client that never dies, and how many steps that takes."""
    set_threads(1)
    coordinator = WatchedCoordinator(recipe=RECIPE, tasks_to_give=TASKS)
    disk, died = live(coordinator, tmp_path_factory.mktemp("undisturbed"))
    assert not died
    assert len(coordinator.updates) == TASKS
    return coordinator.vector.tobytes(), disk.steps


@pytest.mark.parametrize("power_cut", [False, True], ids=["killed", "power cut"])
def test_wherever_a_client_dies_every_update_is_counted_once_and_to_the_same_bytes(
    tmp_path: Path, undisturbed: tuple[bytes, int], power_cut: bool
) -> None:
    wanted, steps = undisturbed
    assert steps == STEPS, "a new step is a new place to die: look at it, then count it here"
    for die_at in range(1, steps + 1):
        coordinator, state_dir = WatchedCoordinator(recipe=RECIPE, tasks_to_give=TASKS), tmp_path / str(die_at)
        _, died = live(coordinator, state_dir, die_at=die_at, power_cut=power_cut)
        assert died, die_at
        if not list(state_dir.glob("credentials/*.json")):
            coordinator.keys.clear()  # an operator frees the name of a client that died with its key unsaved
        _, died = live(coordinator, state_dir)
        assert not died
        assert coordinator.vector.tobytes() == wanted, f"died at {die_at}"
        assert coordinator.released == [], f"died at {die_at}"
        sent = [one.task_id for one in read_sent(sent_folder(state_dir)).departures if one.kind == "update"]
        assert sent == [f"t_{number}" for number in range(1, TASKS + 1)], f"died at {die_at}"
