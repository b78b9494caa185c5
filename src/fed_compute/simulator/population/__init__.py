"""Who takes part in a simulation: device classes and attackers from a file, and each client's traits from the seed."""

from fed_compute.simulator.population.description import (
    AttackerSection,
    AvailabilitySection,
    DeviceSection,
    FleetSpec,
    fleet_given,
    load_fleet,
    preset_names,
)
from fed_compute.simulator.population.population import Population

__all__ = [
    "AttackerSection",
    "AvailabilitySection",
    "DeviceSection",
    "FleetSpec",
    "Population",
    "fleet_given",
    "load_fleet",
    "preset_names",
]
