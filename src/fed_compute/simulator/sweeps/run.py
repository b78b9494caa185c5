"""`sweep`: every combination of some settings simulated, and the comparison of what came of them."""

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fed_compute.protocol.job import JobSpec
from fed_compute.simulator.models import Model, with_model
from fed_compute.simulator.run import resolved
from fed_compute.simulator.samples import Arrays
from fed_compute.simulator.sweeps.conduct import conduct
from fed_compute.simulator.sweeps.design import Base, Behavior, Design
from fed_compute.simulator.sweeps.events import Event, Planned, Tell
from fed_compute.simulator.sweeps.grid import Grid
from fed_compute.simulator.sweeps.outcome import Notes
from fed_compute.simulator.sweeps.result import RUNS, Sweep


def sweep(
    job: JobSpec | Mapping[str, Any] | str | Path | None = None,
    *,
    grid: Mapping[str, Any],
    clients: int = 100,
    model: Model | None = None,
    model_args: Mapping[str, Any] | None = None,
    data: str | Arrays = "digits",
    behavior: Behavior = "stable",
    seed: int = 0,
    rounds: int | None = None,
    split: str = "iid",
    samples_per_client: int | None = None,
    measure_every: int = 1,
    plan: str | None = None,
    at_once: int | None = None,
    out: str | Path | None = None,
    tell: Tell | None = None,
) -> Sweep:
    """Simulate every combination of some settings, several at a time, and return the comparison.

        result = sweep("job.toml", grid={"lr": [0.01, 0.1], "rule": ["fedavg", "robust"]}, clients=50)
        result.table()

    All combinations have the same seed: clients, data and first model are alike, and differences come from what is
    swept. Where `seed` itself is swept, rows that differ in nothing else are one, with mean and standard deviation.
    Each run has the bytes that `simulate` gives for the same arguments.

    Args:
        job: as of `simulate`, like every argument that is not told of here; it holds where the grid says nothing.
        grid: several values, or a single one, for each key: a key of the job file by its path (`training.lr`), by its
            last part where that is the only one (`lr`), `epochs`, `rounds`, `clients_per_round`, or `clients`, `data`,
            `behavior`, `split`, `samples_per_client`, `plan`, `seed`, `attack` and `attackers`. Under any other name,
            settings by their names: `{"algorithm": {"FedAvg": {}, "FedProx": {"mu": 0.1}}}`.
        at_once: how many simulations run at the same time, each in a process of its own; None is as many as there are
            cores. With 1 they run in this process, and so they do where a model or data are registered in it.
        out: a folder for everything, made if missing, which has each report as soon as it is there. Without one it is
            a temporary one, gone with the result; `save` copies it.
        tell: called with what happens: `Planned`, `Began`, `RoundEnded`, `Ended`, `Failed`.

    A run that fails is named in the result and loses no other. Ctrl-C ends what is not finished and goes on to the
    caller as `SweepInterrupted`, a `KeyboardInterrupt` with a `result` of the rest.

    Raises:
        SweepInvalid: before any training, if a key or a value is unknown, naming the nearest, or a combination is no
            simulation, saying which and why.
        JobFileInvalid, SimulationImpossible: if the job is none.
    """
    spec = with_model(resolved(job, seed=seed, rounds=rounds), model, model_args)
    base = Base(spec, clients, data, behavior, seed, split, samples_per_client, measure_every, plan)
    design, notes = Design.of(base, Grid.of(grid)), Notes()
    folder = Path(tempfile.mkdtemp(prefix="fed-compute-sweep-")) if out is None else Path(out)

    def hear(event: Event) -> None:
        notes.take(event)
        if tell is not None:
            tell(event)

    hear(Planned(design.runs))
    try:
        try:
            conduct(design, folder / RUNS, at_once=at_once, tell=hear)
        finally:
            result = Sweep(design, notes.outcomes(design.runs), folder)
            if out is None:
                weakref.finalize(result, shutil.rmtree, folder, ignore_errors=True)
            result.write()
    except KeyboardInterrupt as stop:
        raise SweepInterrupted(result) from stop
    return result


class SweepInterrupted(KeyboardInterrupt):
    """Ctrl-C came during a sweep; `result` has the runs that were finished, and is written."""

    def __init__(self, result: Sweep) -> None:
        super().__init__(f"{len(result.outcomes)} of {len(result.design.runs)} simulations are done")
        self.result = result
