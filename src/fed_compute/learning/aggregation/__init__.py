"""How updates become the next version: a rule folds them into one mean, a server optimiser steps along it."""

from fed_compute.learning.aggregation.aggregator import Aggregator, NextVersion
from fed_compute.learning.aggregation.context import RoundContext
from fed_compute.learning.aggregation.influence import Claim, claimed_weight, mean_discount, round_weights
from fed_compute.learning.aggregation.matrix import ArrayMatrix, FileMatrix, UpdateMatrix
from fed_compute.learning.aggregation.registry import RuleName, aggregate, new_rule
from fed_compute.learning.aggregation.robust_fold import RobustFold
from fed_compute.learning.aggregation.robust_rule import RobustRule
from fed_compute.learning.aggregation.rule import AggregationRule, Outcome
from fed_compute.learning.aggregation.server_optimizers import (
    OptimizerState,
    ServerAdagrad,
    ServerAdam,
    ServerMomentum,
    ServerOptimizer,
    ServerSGD,
    ServerYogi,
    server_optimizer,
)
from fed_compute.learning.aggregation.step_normalization import accumulated_steps
from fed_compute.learning.aggregation.weighted_mean import WeightedMean

__all__ = [
    "AggregationRule",
    "Aggregator",
    "ArrayMatrix",
    "Claim",
    "FileMatrix",
    "NextVersion",
    "OptimizerState",
    "Outcome",
    "RobustFold",
    "RobustRule",
    "RoundContext",
    "RuleName",
    "ServerAdagrad",
    "ServerAdam",
    "ServerMomentum",
    "ServerOptimizer",
    "ServerSGD",
    "ServerYogi",
    "UpdateMatrix",
    "WeightedMean",
    "accumulated_steps",
    "aggregate",
    "claimed_weight",
    "mean_discount",
    "new_rule",
    "round_weights",
    "server_optimizer",
]
