"""Many virtual clients trained at once, each as the client's own trainer would train it."""

from fed_compute.simulator.cohort.calibration import Calibration
from fed_compute.simulator.cohort.engine import CohortEngine, CohortResult
from fed_compute.simulator.cohort.plan import Plan, TrainingPath
from fed_compute.simulator.cohort.shards import Shard

__all__ = ["Calibration", "CohortEngine", "CohortResult", "Plan", "Shard", "TrainingPath"]
