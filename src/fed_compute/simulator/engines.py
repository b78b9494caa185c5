"""What trains a simulation's clients: on this machine or on a cluster, and by which path."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from fed_compute.client.datasets import Dataset
from fed_compute.errors import SimulationImpossible
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.protocol.suggestions import did_you_mean
from fed_compute.simulator.cohort import CohortEngine, Plan, TrainingPath
from fed_compute.simulator.cohort.origins import why_only_here
from fed_compute.simulator.cohort.plan import STEADY, Steady, stack_size
from fed_compute.simulator.cohort.stacked import STACKED_LAYERS

ENGINES = ("local", "ray")
_AUTO, _CLIENT_SCHEME = "auto", "ray://"
_CONTROL_PORT, _CLIENT_PORT, _DASHBOARD_PORT = 6379, 10001, 8265  # Ray's own
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})")


@dataclass(frozen=True)
class EngineChoice:
    """Where a simulation trains: `local`, in processes of this machine, or `ray`, on the cluster at `address`.

    An address is `auto`, `host:port` or `ray://host:port`. Without one Ray takes that of `RAY_ADDRESS`, or starts a
    cluster of this machine alone for the time of the run.
    """

    name: str
    address: str | None = None

    @classmethod
    def parse(cls, name: str, address: str | None = None) -> Self:
        """Check both, without asking whether anything is there.

        Raises:
            SimulationImpossible: naming the nearest engine or address.
        """
        if name not in ENGINES:
            raise SimulationImpossible(
                f"engine {name!r} is unknown{did_you_mean(name, ENGINES, cutoff=0.3)} wanted local or ray"
            )
        if name == "local" and address is not None:
            raise SimulationImpossible(
                f"address {address!r} is of a cluster, engine 'local' has none; add engine 'ray'"
            )
        if address is not None:
            _check_address(address)
        return cls(name, address)

    def open(
        self, datasets: Sequence[Dataset], *, model: str, processes: int | None, plan: Plan | Steady | None
    ) -> CohortEngine:
        """Return the engine, to be closed by the caller. For a cluster, its workers are there and checked by then.

        Raises:
            SimulationImpossible: if there cannot be so many workers, or they cannot import the model of that name.
            CohortUnsupported: if there cannot be so many processes.
            ExtraMissing: if the package `ray` is needed and not installed.
            ClusterUnusable, WorkerLost: if the cluster cannot be reached or used.
        """
        wants_others = self.name != "local" or (processes or 1) > 1
        if wants_others and (reason := why_only_here(model)) is not None:
            what = "engine 'ray'" if self.name != "local" else f"processes = {processes}"
            raise SimulationImpossible(
                f"{what} needs a model that other processes can import, and {model!r} is none: {reason}; "
                "or take engine 'local' with processes = 1"
            )
        if self.name == "local":
            return CohortEngine(datasets, processes=processes, plan=plan)
        if processes is not None and processes < 1:
            raise SimulationImpossible(f"{processes} workers cannot train anything; wanted at least 1")
        from fed_compute.simulator.ray.crew import RayCrew

        crew = RayCrew(datasets, size=processes, address=self.address)
        return CohortEngine(datasets, processes=1, plan=plan, remote=crew)


def _check_address(address: str) -> None:
    if address == _AUTO:
        return
    host_and_port = _HOST_AND_PORT.fullmatch(address.removeprefix(_CLIENT_SCHEME))
    if host_and_port is None or not 0 < int(host_and_port["port"]) < 1 << 16:
        raise SimulationImpossible(
            f"address {address!r} is none of a Ray cluster, did you mean {_nearest_address(address)!r}? "
            "Wanted auto, host:port or ray://host:port"
        )


def _nearest_address(text: str) -> str:
    """Return an address that could be meant: what looks like a host, with the port that Ray has for it."""
    if difflib.get_close_matches(text, [_AUTO], cutoff=0.6):
        return _AUTO
    scheme, there, rest = text.rpartition("://")
    host, _, port = rest.rstrip("/").partition(":")
    number = int(port) if port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16 else None
    if there or scheme:
        return f"{_CLIENT_SCHEME}{host or 'host'}:{number if number not in (None, _DASHBOARD_PORT) else _CLIENT_PORT}"
    return f"{host or 'host'}:{number or _CONTROL_PORT}"


def plan_named(text: str | None, job: JobSpec, schema: ParameterSchema) -> Plan | Steady | None:
    """Return the plan of a text; `auto` is None, which lets the engine measure, and no text is `steady_plan`.

    Raises:
        CohortUnsupported: if it is no plan.
    """
    match text:
        case None:
            return steady_plan(job, schema)
        case "auto":
            return None
        case _:
            return Plan.parse(text)


def steady_plan(job: JobSpec, schema: ParameterSchema) -> Plan | Steady:
    """Return the plan that follows from the model alone, so that a run repeats byte for byte on any machine alike.

    What is measured to be fastest may differ from run to run, and each path rounds in its own way. A plug-in may do
    things that only the client's own trainer does as well: the engine tries, at the first call.
    """
    if job.model.name in STACKED_LAYERS:
        return Plan(TrainingPath.STACKED, stack_size(schema.num_parameters))
    return Plan(TrainingPath.LOOPED) if job.model.name in BUILT_IN else STEADY
