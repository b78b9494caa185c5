"""The metrics of the store: what the records say, the same at every replica."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.metrics_core import Metric

from fed_compute.coordinator.readings import JOB_STATES, PHASES, JobReading, Readings
from fed_compute.coordinator.totals import JobTotals
from fed_compute.server.families import Labels, counted, one_of, spread

MICRO = 1e-6


def of_records(readings: Readings) -> Iterator[Metric]:
    """Yield every family of the store, also those without a value."""
    yield from _jobs(readings.jobs)
    yield from _rounds(readings.jobs)
    yield from _updates(readings)
    yield from _clients(readings)
    yield counted("events_total", {(kind,): count for kind, count in readings.events.items()})
    yield counted("journal_lag_entries", {(reader,): lag for reader, lag in readings.lags.items()})


def _jobs(jobs: Sequence[JobReading]) -> Iterator[Metric]:
    states = {
        labels: value for one in jobs for labels, value in one_of(one.job.state, JOB_STATES, one.job.name).items()
    }
    yield counted("job_state", states)
    yield counted("job_rounds_planned", _by_job(jobs, lambda one: one.rounds_planned))
    yield counted(
        "job_progress_ratio", _by_job(jobs, lambda one: min(1.0, one.totals.rounds["closed"] / one.rounds_planned))
    )
    yield counted("model_version", _by_job(jobs, lambda one: one.latest_version))
    yield counted("model_parameters", _by_job(jobs, lambda one: one.num_parameters))
    yield counted("train_loss", _by_job(jobs, lambda one: one.totals.train_loss))
    yield counted("evaluation_loss", _by_job(jobs, lambda one: one.totals.evaluation_loss))
    yield counted("accuracy_ratio", _by_job(jobs, lambda one: one.totals.accuracy))


def _rounds(jobs: Sequence[JobReading]) -> Iterator[Metric]:
    yield counted("rounds_total", _outcomes(jobs, lambda totals: totals.rounds))
    live = [(one.job.name, one.live) for one in jobs if one.live is not None]
    phases = {labels: value for name, round_ in live for labels, value in one_of(round_.state, PHASES, name).items()}
    yield counted("round_phase", phases)
    yield counted("round_updates", {(one.job.name,): one.num_updates for one in jobs if one.live is not None})
    yield counted("round_target_updates", {(name,): round_.target_updates for name, round_ in live})
    yield counted("round_opened_timestamp_seconds", {(name,): round_.opened_at for name, round_ in live})
    deadlines = {(name,): round_.deadline for name, round_ in live if round_.deadline is not None}
    yield counted("round_deadline_timestamp_seconds", deadlines)
    yield counted("round_closed_timestamp_seconds", _by_job(jobs, lambda one: one.totals.last_closed_at))
    yield spread("round_duration_seconds", [(labels, totals.round_seconds) for labels, totals in _told(jobs)])
    aggregations = [(labels, totals.aggregation_seconds) for labels, totals in _told(jobs)]
    yield spread("aggregation_duration_seconds", aggregations)


def _updates(readings: Readings) -> Iterator[Metric]:
    jobs = readings.jobs
    names = {one.job.job_id: one.job.name for one in jobs}
    leases = {(names[job_id], str(kind)): counts for (job_id, kind), counts in readings.leases.items()}
    yield counted("leases_live", {labels: live for labels, (live, _) in leases.items()})
    yield counted("leases_overdue", {labels: overdue for labels, (_, overdue) in leases.items()})
    tasks = {
        (*labels, kind, outcome): count
        for labels, totals in _told(jobs)
        for (kind, outcome), count in totals.tasks.items()
    }
    yield counted("tasks_total", tasks)
    yield counted("updates_total", _outcomes(jobs, lambda totals: totals.updates))
    yield counted("update_refusals_total", {(code,): count for code, count in readings.refusals.items()})
    yield counted("update_received_bytes_total", {labels: totals.update_bytes for labels, totals in _told(jobs)})
    yield counted("update_samples_total", {labels: totals.num_samples for labels, totals in _told(jobs)})
    yield spread("update_latency_seconds", [(labels, totals.latency_seconds) for labels, totals in _told(jobs)])
    yield spread("update_staleness_versions", [(labels, totals.staleness) for labels, totals in _told(jobs)])


def _clients(readings: Readings) -> Iterator[Metric]:
    yield counted("clients", {(state,): count for state, count in readings.clients.items()})
    yield counted("clients_present", {(): readings.clients_present})
    yield counted("credit_issued_tokens", {(): readings.credit_micro_tokens * MICRO})


def _by_job(jobs: Sequence[JobReading], value_of: Callable[[JobReading], float | None]) -> dict[Labels, float]:
    """Return a value for each job that has one."""
    values = {(one.job.name,): value_of(one) for one in jobs}
    return {labels: value for labels, value in values.items() if value is not None}


def _told(jobs: Sequence[JobReading]) -> list[tuple[Labels, JobTotals]]:
    return [((one.job.name,), one.totals) for one in jobs]


def _outcomes(jobs: Sequence[JobReading], counts_of: Callable[[JobTotals], Mapping[str, int]]) -> dict[Labels, float]:
    return {(*labels, outcome): count for labels, totals in _told(jobs) for outcome, count in counts_of(totals).items()}
