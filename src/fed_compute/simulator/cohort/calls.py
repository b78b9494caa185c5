"""One call to train a cohort, as arrays that several processes can share."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema, Vector
from fed_compute.simulator.cohort.plan import Plan
from fed_compute.simulator.cohort.shards import Rows

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Task:
    """What stays the same from call to call: the job, its parameters, and by which path it is trained.

    `origin` is where another process finds the code of the model, as `module:name`; None if by the model's name.
    """

    job: JobSpec
    schema: ParameterSchema
    plan: Plan
    origin: str | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """n clients to be trained from one vector, in training order, and where the results go.

    `base` has shape (P,). Client i has the rows `rows[bounds[i]:bounds[i + 1]]` of `datasets[sources[i]]`, the seed
    `seeds[i]`, and the row `places[i]` of the other three: `added`, shape (n, P), is None or what is added to each of
    its steps' gradients. Written are `deltas`, shape (n, P), float32, and `losses`, shape (n,), float64, the mean loss
    per sample of the last epoch; both are NaN for a client whose loss or parameters stopped being finite.
    """

    base: Vector
    datasets: tuple[Dataset, ...]
    sources: Numbers
    rows: Rows
    bounds: Numbers
    seeds: Numbers
    places: Numbers
    added: npt.NDArray[np.float32] | None
    deltas: npt.NDArray[np.float32]
    losses: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.seeds)

    def shard(self, client: int) -> Rows:
        """Return the rows of one client."""
        return self.rows[self.bounds[client] : self.bounds[client + 1]]


def training_order(sources: Numbers, num_steps: Numbers) -> Numbers:
    """Return the clients in training order: by data set, most steps first.

    So whoever shares a stack has about as much to do, and nobody waits for long.
    """
    return np.lexsort((-num_steps, sources))


def groups_of(sources: Numbers, clients_at_once: int) -> list[slice]:
    """Cut clients, in training order, into groups of one data set each. Any process comes to the same ones."""
    edges = [0, *(np.flatnonzero(np.diff(sources)) + 1).tolist(), len(sources)]
    return [
        slice(first, min(first + clients_at_once, stop))
        for start, stop in pairwise(edges)
        for first in range(start, stop, clients_at_once)
    ]
