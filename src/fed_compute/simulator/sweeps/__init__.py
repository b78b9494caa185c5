"""Many simulations that differ in chosen settings, and their comparison."""

from fed_compute.simulator.sweeps.result import Sweep
from fed_compute.simulator.sweeps.run import SweepInterrupted, sweep

__all__ = ["Sweep", "SweepInterrupted", "sweep"]
