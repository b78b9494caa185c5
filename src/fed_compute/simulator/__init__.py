"""Many virtual clients on one machine, around the product's own coordinator, in virtual time."""

from fed_compute.simulator.report import Report
from fed_compute.simulator.run import simulate

__all__ = ["Report", "simulate"]
