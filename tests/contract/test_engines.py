"""Every engine gives the same bytes, and a Ray cluster that loses a node gives no others."""

import os
import re
import secrets
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from fed_compute.client.datasets import Dataset
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.errors import ClusterUnusable, WorkerLost
from fed_compute.rounds.records import Entry
from fed_compute.simulator import simulate
from fed_compute.simulator.cohort import CohortEngine, CohortResult, Plan, Shard
from fed_compute.simulator.cohort.calls import Task
from fed_compute.simulator.population.description import parse_fleet_text
from fed_compute.simulator.ray.pieces import Piece
from tests.unit.simulator.cohort.jobs import DIGITS, job_for, shards_of, start_of

if TYPE_CHECKING:
    from fed_compute.simulator.ray.crew import RayCrew

# Read when Ray is loaded: whoever does not know the token gets nothing from the cluster.
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}

FLEET = """
[[device]]
name = "pc"
samples_per_second = 20.0
speed_spread = 6.0
dropout_probability = 0.2
lateness_probability = 0.2
lateness_seconds = 90.0
[[attacker]]
attack = "label_flip"
share = 0.2
"""
ENGINES = {
    "2 processes": {"engine": "local", "processes": 2},
    "ray": {"engine": "ray"},
}
DRAWN = re.compile(r"(?<=\"key_id\":\")\w+")
"""What the system draws and not the seed: keys, and the names of tasks, by which those of one moment are ordered."""
PLAN = Plan.parse("stacked:2")
OBJECT_STORE_BYTES = 80 << 20
PATIENCE_SECONDS = 600.0
"""However busy the machine is, nobody begins before all workers are there."""
ENDING_SECONDS = 20.0


@dataclass(frozen=True)
class Outcome:
    """All of a simulation that must not depend on where its clients were trained."""

    model: bytes
    rows: str
    page: str
    journal: list[str]


@pytest.fixture(scope="module")
def outcomes() -> Callable[..., Outcome]:
    """Return what simulates a small job on data that this process alone has, each engine once."""
    known: dict[tuple[str, ...], Outcome] = {}

    def outcome(mode: str, **engine: Any) -> Outcome:
        key = mode, str(engine)
        known[key] = known.get(key) or simulated(mode, **engine)
        return known[key]

    return outcome


def simulated(mode: str, **engine: Any) -> Outcome:
    """Simulate, and read the journal just before it is gone."""
    journal: list[Entry] = []
    close = Coordinator.close

    def read_and_close(core: Coordinator) -> None:
        with core.store.snapshot() as records:
            journal.extend(records.journal.after(0, limit=100_000))
        close(core)

    rounds = {"total": 4, "target_updates": 12, "min_updates": 2, "deadline_seconds": 120.0, "mode": mode}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Coordinator, "close", read_and_close)
        report = simulate(
            {"rounds": rounds, "training": {"batch_size": 8}},
            clients=30,
            data=(DIGITS.x, DIGITS.y),
            behavior=parse_fleet_text(FLEET),
            seed=5,
            plan=str(PLAN),
            samples_per_client=12,
            **engine,
        )
    return Outcome(report.model.tobytes(), report.csv(), report.html(), lines_of(journal))


def lines_of(journal: Sequence[Entry]) -> list[str]:
    """Return what happened, without what the system draws."""
    return sorted(DRAWN.sub("", repr(replace(entry, seq=0, task_id=None))) for entry in journal)


@dataclass(frozen=True)
class TwoNodes:
    """A cluster on loopback. The driver is on the first node, and another can be added and lost."""

    address: str
    crew: Callable[..., "RayCrew"]
    add_node: Callable[[], Any]
    lose_node: Callable[[Any], None]


@pytest.fixture(scope="module")
def cluster() -> Iterator[TwoNodes]:
    """Two Ray nodes with one processor each, closed to everybody else, and gone afterwards whatever happens."""
    if find_spec("ray") is None:
        pytest.skip("NO RAY: install fed-compute[ray]; nothing is checked on a cluster")
    from fed_compute.simulator.ray.crew import RayCrew  # the first to load Ray, which it keeps quiet

    # isort: split
    from ray.cluster_utils import Cluster

    before, started = _children(), set[psutil.Process]()
    folder = tempfile.mkdtemp(prefix="fc-ray-")  # short: it holds sockets
    size = {"num_cpus": 1, "object_store_memory": OBJECT_STORE_BYTES}

    def lose_node(node: Any) -> None:
        started.update(_children())
        nodes.remove_node(node, allow_graceful=False)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", folder)
        patch.setattr("fed_compute.simulator.ray.crew._OTHER_WORKERS_SECONDS", PATIENCE_SECONDS)
        nodes = Cluster()
        try:
            nodes.add_node(**size, include_dashboard=False)
            nodes.add_node(**size)
            crew = partial(RayCrew, address=nodes.address)
            yield TwoNodes(nodes.address, crew, lambda: nodes.add_node(**size), lose_node)
        finally:
            started.update(_children())
            nodes.shutdown()
            shutil.rmtree(folder, ignore_errors=True)
            until = time.monotonic() + ENDING_SECONDS
            while (left := [one for one in started - before if _lives(one)]) and time.monotonic() < until:
                time.sleep(0.05)
            for one in left:
                one.kill()
    assert left == []


def _lives(process: psutil.Process) -> bool:
    """Say whether a process still does something. Its parent may be gone, and nobody asks how it ended."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.mark.parametrize("mode", ["sync", "fedbuff"])
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_model_journal_and_report(
    engine: str, mode: str, outcomes: Callable[..., Outcome], request: pytest.FixtureRequest
) -> None:
    """Some clients vanish, some are late and some lie, on samples that they relabelled themselves."""
    more = {"address": request.getfixturevalue("cluster").address} if engine == "ray" else {}
    wanted = outcomes(mode, engine="local", processes=1)
    found = outcomes(mode, **ENGINES[engine], **more)
    assert found.journal == wanted.journal
    assert found == wanted


JOB, SHARDS = job_for(momentum=0.9, local_epochs=5), shards_of([20 + client % 7 for client in range(96)])


def train(engine: CohortEngine, *more: Shard, **given: Any) -> CohortResult:
    shards = [*SHARDS, *more]
    return engine.train(start_of(JOB), shards, JOB, range(len(shards)), **given)


@cache
def trained_here() -> CohortResult:
    return here()


def here(*more: Shard, **given: Any) -> CohortResult:
    with CohortEngine([DIGITS], processes=1, plan=PLAN) as engine:
        return train(engine, *more, **given)


def assert_same_bytes(found: CohortResult, wanted: CohortResult) -> None:
    assert found.deltas.tobytes() == wanted.deltas.tobytes()
    assert found.losses.tobytes() == wanted.losses.tobytes()


def test_both_nodes_take_part_and_losing_the_cluster_is_one_clear_error(
    cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    flipped = Shard.whole(Dataset(DIGITS.x[:20], 9 - DIGITS.y[:20], "flipped"))
    wild = Shard.whole(Dataset(DIGITS.x[:16] * np.float32(1e30), DIGITS.y[:16], "wild"))
    added = np.full((len(SHARDS) + 2, len(start_of(JOB))), 0.01, dtype=np.float32)
    crew = cluster.crew([DIGITS])
    with CohortEngine([DIGITS], processes=1, plan=PLAN, remote=crew) as engine:
        assert_same_bytes(train(engine), trained_here())
        assert len(crew.clients_by_node) == 2
        assert min(crew.clients_by_node.values()) > 0
        assert_same_bytes(train(engine, flipped, wild, added=added), here(flipped, wild, added=added))

        monkeypatch.setattr("fed_compute.simulator.ray.cluster._LOST_SECONDS", 0.0)
        monkeypatch.setattr("fed_compute.simulator.ray.cluster._LOOK_SECONDS", 0.0)
        monkeypatch.setattr("fed_compute.simulator.ray.cluster._answers", lambda address: False)
        with pytest.raises(WorkerLost, match=r"the Ray cluster is lost: nothing has answered at .*`ray status`"):
            train(engine)


def test_a_node_that_dies_in_the_middle_changes_no_byte_and_says_nothing(
    cluster: TwoNodes, capfd: pytest.CaptureFixture[str]
) -> None:
    victim = cluster.add_node()

    class Killing(Counter[str]):
        def __setitem__(self, node: str, count: int) -> None:
            if node == victim.node_id and node not in self:  # it has another piece at work
                cluster.lose_node(victim)
            super().__setitem__(node, count)

    crew = cluster.crew([DIGITS])
    crew.clients_by_node = Killing()
    with CohortEngine([DIGITS], processes=1, plan=PLAN, remote=crew) as engine:
        assert_same_bytes(train(engine), trained_here())
        assert len(crew.clients_by_node) == 3
        assert crew.clients_by_node.total() == len(SHARDS)
        once = crew.clients_by_node[victim.node_id]
        assert 0 < once < len(SHARDS) / 2
        assert_same_bytes(train(engine), trained_here())
        assert crew.clients_by_node[victim.node_id] == once
    assert capfd.readouterr() == ("", "")


def test_another_version_on_the_cluster_is_refused_before_any_training(
    cluster: TwoNodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fed_compute.simulator.ray.crew.versions", lambda: {"fed-compute": "9.9"})
    with pytest.raises(ClusterUnusable, match=r"has fed-compute .* \(here 9\.9\); install the same"):
        cluster.crew([], size=1)


def test_what_a_node_lacks_is_said_with_its_code_and_in_words(cluster: TwoNodes) -> None:
    from fed_compute.simulator.ray.worker import PieceTrainer

    model = JOB.model.model_copy(update={"name": "somebodys_model"})
    task = Task(JOB.model_copy(update={"model": model}), JOB.schema_of_model(), Plan.parse("sequential"))
    numbers = np.arange(1)
    piece = Piece(slice(0, 1), sources=numbers, rows=numbers, bounds=np.arange(2), seeds=numbers, added=None)
    base = np.zeros(task.schema.num_parameters, dtype=np.float32)
    with pytest.raises(RuntimeError, match=r"^model_unknown: .*'somebodys_model'"):
        PieceTrainer(DIGITS).train(task, base, piece)
