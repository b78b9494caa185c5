"""Many virtual clients trained at once, each as the client's own trainer would train it."""

from fed_compute.simulator.cohort.calibration import Calibration
from fed_compute.simulator.cohort.effort import CohortResult, Effort
from fed_compute.simulator.cohort.engine import CohortEngine
from fed_compute.simulator.cohort.library import laid_out
from fed_compute.simulator.cohort.plan import Plan, TrainingPath
from fed_compute.simulator.cohort.shards import Shard

__all__ = ["Calibration", "CohortEngine", "CohortResult", "Effort", "Plan", "Shard", "TrainingPath", "laid_out"]
