"""Open federated learning on volunteer and edge machines.

The names below are the Python API: stable, and loaded when they are first used, so that `import fed_compute` is quick
and needs no PyTorch. Everything else in this package is inside, and may change.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_compute.client.datasets import register_dataset
    from fed_compute.client.models import register_model
    from fed_compute.facade.client import Client
    from fed_compute.facade.coordinator import Coordinator
    from fed_compute.protocol.job import JobSpec, load_job
    from fed_compute.simulator import Report, Sweep, simulate, sweep

__all__ = [
    "Client",
    "Coordinator",
    "JobSpec",
    "Report",
    "Sweep",
    "load_job",
    "register_dataset",
    "register_model",
    "simulate",
    "sweep",
]


def __getattr__(name: str) -> object:
    match name:
        case "Client":
            from fed_compute.facade.client import Client

            return Client
        case "Coordinator":
            from fed_compute.facade.coordinator import Coordinator

            return Coordinator
        case "JobSpec":
            from fed_compute.protocol.job import JobSpec

            return JobSpec
        case "Report":
            from fed_compute.simulator import Report

            return Report
        case "Sweep":
            from fed_compute.simulator import Sweep

            return Sweep
        case "load_job":
            from fed_compute.protocol.job import load_job

            return load_job
        case "register_dataset":
            from fed_compute.client.datasets import register_dataset

            return register_dataset
        case "register_model":
            from fed_compute.client.models import register_model

            return register_model
        case "simulate":
            from fed_compute.simulator import simulate

            return simulate
        case "sweep":
            from fed_compute.simulator import sweep

            return sweep
        case _:
            raise AttributeError(f"module 'fed_compute' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
