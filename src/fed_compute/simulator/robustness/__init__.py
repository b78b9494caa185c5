"""Attacks against aggregation rules: how well does a model learn when some clients lie?"""

from fed_compute.simulator.robustness.defences import DEFENCES, Defence
from fed_compute.simulator.robustness.setting import Setting, Split
from fed_compute.simulator.robustness.trial import Result, run_trial

__all__ = ["DEFENCES", "Defence", "Result", "Setting", "Split", "run_trial"]
