"""Many virtual clients on one machine, around the product's own coordinator, in virtual time.

The names are loaded when they are first used: whoever trains cohorts needs no coordinator.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fed_compute.simulator.report import Report
    from fed_compute.simulator.run import simulate
    from fed_compute.simulator.sweeps import Sweep, sweep

__all__ = ["Report", "Sweep", "simulate", "sweep"]


def __getattr__(name: str) -> object:
    match name:
        case "Report":
            from fed_compute.simulator.report import Report

            return Report
        case "Sweep":
            from fed_compute.simulator.sweeps import Sweep

            return Sweep
        case "simulate":
            from fed_compute.simulator.run import simulate

            return simulate
        case "sweep":
            from fed_compute.simulator.sweeps import sweep

            return sweep
        case _:
            raise AttributeError(
                f"module 'fed_compute.simulator' has no attribute {name!r}; it has {', '.join(__all__)}"
            )


def __dir__() -> list[str]:
    return __all__
