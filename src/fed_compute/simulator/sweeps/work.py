"""One run of a sweep, carried out: here, or in a process of its own as `python -m fed_compute.simulator.sweeps.work`.

Such a process reads orders on its standard input and tells on its standard output; whatever else is printed goes to
standard error. It ends when the other side does. An error that is not one of ours ends it as well.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fed_compute.errors import FedComputeError
from fed_compute.simulator.run import simulate
from fed_compute.simulator.samples import Arrays
from fed_compute.simulator.sweeps.design import Run
from fed_compute.simulator.sweeps.events import Began, Ended, Failed, RoundEnded, Told, to_line


def carry_out(
    run: Run, data: str | Arrays, folder: Path, *, processes: int | None, tell: Callable[[Told], None]
) -> None:
    """Simulate a run with its own arguments, write its report into a folder, and tell how it goes."""
    tell(Began(run.number))
    started = time.perf_counter()
    try:
        report = simulate(
            run.job,
            clients=run.clients,
            data=data,
            behavior=run.fleet,
            seed=run.seed,
            split=run.split,
            samples_per_client=run.samples_per_client,
            measure_every=run.measure_every,
            plan=run.plan,
            processes=processes,
            on_round=lambda row: tell(RoundEnded(run.number, row)),
        )
        report.save(folder)
    except FedComputeError as error:
        tell(Failed(run.number, error.message))
    else:
        tell(Ended(run.number, report.first, report.rounds, report.summary(), time.perf_counter() - started))


def save_arrays(data: Arrays, path: Path) -> None:
    """Write arrays for other processes; of `users` their order, which is all that a split looks at."""
    x, y, *users = data
    np.savez(path, np.asarray(x), np.asarray(y), *(np.unique(names, return_inverse=True)[1] for names in users))


def _load_arrays(path: str) -> Arrays:
    with np.load(path, allow_pickle=False) as archive:
        arrays = tuple(archive[name] for name in archive.files)
    return (arrays[0], arrays[1], arrays[2]) if len(arrays) > 2 else (arrays[0], arrays[1])


def main() -> None:
    """Carry out orders until there are no more."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1, encoding="utf-8") as channel:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

        def tell(event: Told) -> None:
            channel.write(to_line(event) + "\n")

        for line in sys.stdin:
            order = json.loads(line)
            run = Run.from_json(order["run"])
            data = _load_arrays(order["arrays"]) if run.data is None else run.data
            carry_out(run, data, Path(order["folder"]), processes=1, tell=tell)


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)  # the other side is gone, and with it everybody who could be told
