"""Which runs go where: to a crew of processes, or one after the other into this one."""

import tempfile
from pathlib import Path

from fed_compute.client.datasets import is_registered_source, parse_spec
from fed_compute.client.models.registry import registered_model
from fed_compute.errors import SweepInvalid
from fed_compute.simulator.cohort.engine import usable_cores
from fed_compute.simulator.sweeps.crew import Crew
from fed_compute.simulator.sweeps.design import Design, Run
from fed_compute.simulator.sweeps.events import Tell
from fed_compute.simulator.sweeps.work import carry_out, save_arrays


def conduct(design: Design, folder: Path, *, at_once: int | None, tell: Tell) -> None:
    """Carry out all runs, each report in a folder of its own below `folder`; `tell` hears how they go.

    With several at once each run has a process of its own; with one, or where a model or a source of data is
    registered in this process alone, they run here, one after the other. Neither changes a byte of a report.

    Raises:
        SweepInvalid: if `at_once` is below 1.
    """
    if at_once is not None and at_once < 1:
        raise SweepInvalid(f"{at_once} simulations at once, wanted at least 1, or None for as many as there are cores")
    size = min(at_once or usable_cores(), len(design.runs))
    if size == 1 or any(_is_of_this_process(run) for run in design.runs):
        for run in design.runs:
            data = design.base.data if run.data is None else run.data
            carry_out(run, data, folder / run.folder, processes=None, tell=tell)
        return
    with tempfile.TemporaryDirectory(prefix="fed-compute-sweep-") as desk:
        arrays = None
        if not isinstance(design.base.data, str):
            arrays = Path(desk) / "arrays.npz"
            save_arrays(design.base.data, arrays)
        Crew(size, folder, arrays=arrays).carry_out(design.runs, tell)


def _is_of_this_process(run: Run) -> bool:
    return registered_model(run.job.model.name) is not None or (
        run.data is not None and is_registered_source(parse_spec(run.data).source)
    )
