"""How updates become the next version: a rule folds them into one mean, a server optimiser steps along it."""

from fed_compute.learning.aggregation.aggregator import Aggregator
from fed_compute.learning.aggregation.matrix import ArrayMatrix, FileMatrix, UpdateMatrix
from fed_compute.learning.aggregation.registry import RuleName, aggregate, new_rule
from fed_compute.learning.aggregation.robust_rule import Outcome, RobustRule
from fed_compute.learning.aggregation.rule import AggregationRule
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
from fed_compute.learning.aggregation.weighted_mean import WeightedMean

__all__ = [
    "AggregationRule",
    "Aggregator",
    "ArrayMatrix",
    "FileMatrix",
    "OptimizerState",
    "Outcome",
    "RobustRule",
    "RuleName",
    "ServerAdagrad",
    "ServerAdam",
    "ServerMomentum",
    "ServerOptimizer",
    "ServerSGD",
    "ServerYogi",
    "UpdateMatrix",
    "WeightedMean",
    "aggregate",
    "new_rule",
    "server_optimizer",
]
