"""Attacks against aggregation rules: how well does a model learn when some clients lie?"""

from fed_compute.simulator.robustness.defences import DEFENCES, Defence
from fed_compute.simulator.robustness.setting import SPLITS, Setting, Split
from fed_compute.simulator.robustness.trial import Result, run_trial

__all__ = ["DEFENCES", "SPLITS", "Defence", "Result", "Setting", "Split", "run_trial"]
