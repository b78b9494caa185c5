"""A virtual client sends what a real one would send, also where that follows from its earlier updates."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from fed_compute.client.datasets import Dataset, split_holdout
from fed_compute.client.datasets.dataset import HOLDOUT_SEED
from fed_compute.client.trainer import set_threads
from fed_compute.client.work import FinishedUpdate, OwnRules, Workbench
from fed_compute.clock import ManualClock
from fed_compute.coordinator.recipes import task_seed
from fed_compute.ids import ClientId
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import draw_initial
from fed_compute.simulator.cohort import CohortEngine, Plan
from fed_compute.simulator.population import Population
from fed_compute.simulator.population.description import parse_fleet_text
from fed_compute.simulator.splits import Holdings, Split
from fed_compute.simulator.training import Made, Order, Workshop
from tests.unit.client.parts import memory_in
from tests.unit.client.recipes import blobs, task_for

CLIENTS, ROUNDS, MAX_NORM = 3, 3, 0.2
SCAFFOLD = {"lr": 0.05, "batch_size": 16, "report_steps": True, "control_variates": 0.9}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    set_threads(1)


def job_with(encoding: str, training: dict[str, object]) -> JobSpec:
    return parse_job({"training": training, "wire": {"encoding": encoding, "topk_fraction": 0.05}})


class Real:
    """A client's own workbench, with its memory in a folder."""

    def __init__(self, job: JobSpec, data: Dataset, name: ClientId, folder: Path) -> None:
        self._job, self._name = job, name
        self._bench = Workbench(data, ManualClock(), memory_in(folder / name), rules=OwnRules())

    def train(self, base: Vector, control: Vector | None, *, round_number: int) -> FinishedUpdate:
        """Train once and be accepted, unless it is the second round: that update is refused."""
        seed = task_seed(self._job, round_number=round_number, client_id=self._name)
        recipe = Recipe.of(self._job, self._job.schema_of_model(), seed=seed, max_update_norm=MAX_NORM)
        task = task_for(recipe)
        update = self._bench.train(task, base, client_id=self._name, progress=lambda _: None, control=control)
        if round_number != 2:
            self._bench.accepted(task, update.left)
        return update


def virtual_rounds(job: JobSpec, parts: list[Dataset], names: list[ClientId]) -> Iterator[list[Made | None]]:
    """Yield what the virtual clients make of each round; the updates of the second one are refused."""
    schema = job.schema_of_model()
    whole = Dataset(np.concatenate([one.x for one in parts]), np.concatenate([one.y for one in parts]), "parts")
    users = np.repeat(np.arange(CLIENTS), [len(one) for one in parts])
    holdings = Holdings(whole, CLIENTS, Split("user"), seed=0, users=users)
    population = Population(parse_fleet_text('[[device]]\nname = "pc"'), CLIENTS, seed=0, began_at=0.0)
    assert population.names == names
    with CohortEngine((whole,), processes=1, plan=Plan.parse("sequential")) as engine:
        workshop = Workshop(job, schema, population, holdings, engine)
        for number in range(1, ROUNDS + 1):
            orders = [Order(client, names[client], number, MAX_NORM, 10**7) for client in range(CLIENTS)]
            base, control = given(job, number)
            made = list(workshop.make(base, orders, control=control))
            if number != 2:
                for client, one in enumerate(made):
                    assert one is not None
                    workshop.keep(client, one.left)
            yield made


def given(job: JobSpec, number: int) -> tuple[Vector, Vector | None]:
    """Return the parameters and the control variate that a round starts from."""
    base = draw_initial(job.schema_of_model(), seed=number)
    drawn = 0.01 * np.random.default_rng(number).standard_normal(base.size).astype(np.float32)
    return base, None if number == 1 or job.training.control_variates == 0 else drawn


@pytest.mark.parametrize(
    ("encoding", "training"),
    [("f32", SCAFFOLD), ("int8", SCAFFOLD), ("topk", {"lr": 0.1})],
    ids=["control variates", "control variates through a lossy encoding", "what an encoding left out"],
)
def test_virtual_clients_send_and_remember_what_real_ones_do(
    encoding: str, training: dict[str, object], tmp_path: Path
) -> None:
    job, names = job_with(encoding, training), [ClientId(f"pc-{number:07d}") for number in range(CLIENTS)]
    data = [blobs(40 + 10 * client, seed=client) for client in range(CLIENTS)]
    parts = [split_holdout(one, job.evaluation.holdout_fraction, HOLDOUT_SEED)[0] for one in data]
    real = [Real(job, one, name, tmp_path) for one, name in zip(data, names, strict=True)]
    earlier: list[bytes] = []
    for number, made in enumerate(virtual_rounds(job, parts, names), start=1):
        base, control = given(job, number)
        for one, virtual in zip(real, made, strict=True):
            wanted = one.train(base, control, round_number=number)
            assert virtual is not None
            size = len(virtual.body)
            assert virtual.body[size // 2 :] == wanted.body[len(wanted.body) - size + size // 2 :], "the same values"
            if wanted.left.control is not None:
                np.testing.assert_array_equal(virtual.left.control, wanted.left.control)
            assert (virtual.left.residual is None) == (wanted.left.residual is None) == (encoding == "f32")
            assert virtual.body not in earlier
            earlier.append(virtual.body)


@dataclass(frozen=True)
class Canned:
    """An engine that trains nobody: it gives what it was given."""

    deltas: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float64]

    def train(self, *_given: object, **_named: object) -> "Canned":
        return self


def test_an_update_that_is_not_finite_is_not_sent_though_its_loss_is() -> None:
    job = job_with("f32", {"lr": 0.1})
    size, fleet = job.schema_of_model().num_parameters, parse_fleet_text('[[device]]\nname = "pc"')
    population = Population(fleet, CLIENTS, seed=0, began_at=0.0)
    holdings = Holdings(blobs(60, seed=0), CLIENTS, Split("iid"), seed=0)
    orders = [Order(client, population.names[client], 1, MAX_NORM, 10**7) for client in range(CLIENTS)]
    deltas = np.random.default_rng(0).standard_normal((CLIENTS, size)).astype(np.float32)
    deltas[1, -1] = np.nan
    workshop = Workshop(job, job.schema_of_model(), population, holdings, Canned(deltas, np.ones(CLIENTS)))
    made = workshop.make(np.zeros(size, dtype=np.float32), orders)
    assert [one is None for one in made] == [False, True, False]
