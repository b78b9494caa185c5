"""What a simulation leaves: rows, a model, a page with plots, and how to do it again."""

from fed_compute.simulator.report.report import Report, Setup

__all__ = ["Report", "Setup"]
