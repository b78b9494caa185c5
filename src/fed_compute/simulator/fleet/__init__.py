"""A fleet of unequal machines around the real coordinator, in virtual time."""

from fed_compute.simulator.fleet.setting import Setting
from fed_compute.simulator.fleet.trial import Trial, run_trial

__all__ = ["Setting", "Trial", "run_trial"]
