"""Many clients at once: one transaction for a whole batch, and every check and journal line of the single way."""

from fed_compute.coordinator.bulk.assigner import BulkAssigner, Granted
from fed_compute.coordinator.bulk.enrolment import Enrolment
from fed_compute.coordinator.bulk.evaluations import BulkEvaluations
from fed_compute.coordinator.bulk.pipeline import BulkPipeline, Delivery

__all__ = ["BulkAssigner", "BulkEvaluations", "BulkPipeline", "Delivery", "Enrolment", "Granted"]
