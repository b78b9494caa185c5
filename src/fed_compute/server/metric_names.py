"""Every metric that `/metrics` and `/metrics/prometheus` tell: its name, kind, unit, labels and meaning.

Names follow Prometheus: base units in the name, `_total` on counters. No label ever names a client, so how many series
there are depends on jobs, routes and error codes alone. A metric of the store is the same at every replica: take one,
`max by (job_name) (…)`. One of the process is each replica's own, since it began: add them up, `sum(rate(…))`.
A job of ours is `job_name`, since `job` is Prometheus' own word for a group of targets.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How values behave: counters only grow, gauges go both ways, a histogram counts by upper bounds."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Origin(StrEnum):
    """Where a metric comes from: the records, which all replicas share, or the one process that was asked."""

    STORE = "store"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class MetricName:
    """One family as PromQL knows it. A histogram also has `_bucket`, `_sum` and `_count`. `unit` is "" for counts."""

    name: str
    kind: Kind
    unit: str
    origin: Origin
    help: str
    labels: tuple[str, ...] = ()

    def series(self) -> tuple[str, ...]:
        """Return the names under which values are told."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(f"{self.name}{suffix}" for suffix in ("_bucket", "_sum", "_count"))
        return (self.name,)


def _of_store(name: str, kind: Kind, unit: str, help_: str, *labels: str) -> MetricName:
    return MetricName(f"fed_compute_{name}", kind, unit, Origin.STORE, help_, labels)


def _of_process(name: str, kind: Kind, unit: str, help_: str, *labels: str) -> MetricName:
    return MetricName(f"fed_compute_{name}", kind, unit, Origin.PROCESS, help_, labels)


def _of_python(name: str, kind: Kind, unit: str, help_: str) -> MetricName:
    return MetricName(f"process_{name}", kind, unit, Origin.PROCESS, help_)


_COUNTER, _GAUGE, _HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

METRICS: tuple[MetricName, ...] = (
    # Jobs and models
    _of_store("job_state", _GAUGE, "", "1 for the state that a job is in, 0 for the others.", "job_name", "state"),
    _of_store("job_rounds_planned", _GAUGE, "", "Rounds with a result that end the job.", "job_name"),
    _of_store("job_progress_ratio", _GAUGE, "ratio", "Rounds with a result by rounds planned, 0 to 1.", "job_name"),
    _of_store("model_version", _GAUGE, "", "Newest model version.", "job_name"),
    _of_store("model_parameters", _GAUGE, "", "Parameters of the model.", "job_name"),
    _of_store("train_loss", _GAUGE, "", "Mean training loss that clients told in the newest closed round.", "job_name"),
    _of_store("evaluation_loss", _GAUGE, "", "Mean loss on held-out data of the newest measured version.", "job_name"),
    _of_store("accuracy_ratio", _GAUGE, "ratio", "Accuracy on held-out data, 0 to 1, of that version.", "job_name"),
    # Rounds
    _of_store("rounds_total", _COUNTER, "", "Rounds by outcome: opened, closed, abandoned.", "job_name", "outcome"),
    _of_store(
        "round_phase", _GAUGE, "", "1 for the phase that the live round is in, 0 for the others.", "job_name", "phase"
    ),
    _of_store("round_updates", _GAUGE, "", "Updates accepted in the live round.", "job_name"),
    _of_store("round_target_updates", _GAUGE, "", "Updates that close the live round.", "job_name"),
    _of_store(
        "round_opened_timestamp_seconds", _GAUGE, "seconds", "When the live round was opened, Unix time.", "job_name"
    ),
    _of_store(
        "round_deadline_timestamp_seconds", _GAUGE, "seconds", "When the live round is over, once it runs.", "job_name"
    ),
    _of_store(
        "round_closed_timestamp_seconds", _GAUGE, "seconds", "When a round was last closed with a result.", "job_name"
    ),
    _of_store(
        "round_duration_seconds",
        _HISTOGRAM,
        "seconds",
        "From a round's first task to its result, without pauses.",
        "job_name",
    ),
    _of_store(
        "aggregation_duration_seconds", _HISTOGRAM, "seconds", "From a round's last update to its result.", "job_name"
    ),
    # Clients, leases and updates
    _of_store("clients", _GAUGE, "", "Registered clients by state: active, pending, banned.", "state"),
    _of_store("clients_present", _GAUGE, "", "Clients that may take part and were heard of lately."),
    _of_store("leases_live", _GAUGE, "", "Leases that are held now.", "job_name", "kind"),
    _of_store(
        "leases_overdue", _GAUGE, "", "Leases past their deadline that nobody has ended yet.", "job_name", "kind"
    ),
    _of_store(
        "tasks_total", _COUNTER, "", "Tasks: assigned, expired, released, cancelled.", "job_name", "kind", "outcome"
    ),
    _of_store("updates_total", _COUNTER, "", "Updates: accepted, refused, late.", "job_name", "outcome"),
    _of_store("update_refusals_total", _COUNTER, "", "Refused updates by error code.", "code"),
    _of_store("update_received_bytes_total", _COUNTER, "bytes", "Bytes of accepted updates.", "job_name"),
    _of_store("update_samples_total", _COUNTER, "", "Samples behind accepted updates, as told by clients.", "job_name"),
    _of_store(
        "update_latency_seconds", _HISTOGRAM, "seconds", "From a task's lease to its accepted update.", "job_name"
    ),
    _of_store(
        "update_staleness_versions",
        _HISTOGRAM,
        "versions",
        "Versions between an update's base and its round's.",
        "job_name",
    ),
    _of_store("credit_issued_tokens", _GAUGE, "tokens", "Credit granted and not taken back."),
    # The journal and its readers
    _of_store("events_total", _COUNTER, "", "Lines of the journal by kind.", "kind"),
    _of_store("journal_lag_entries", _GAUGE, "", "Lines of the journal that a reader has still to read.", "reader"),
    # HTTP
    _of_process("http_requests_total", _COUNTER, "", "Answered requests.", "method", "route", "status"),
    _of_process(
        "http_request_duration_seconds",
        _HISTOGRAM,
        "seconds",
        "From a request's head to the head of its answer; waiting for work counts.",
        "method",
        "route",
    ),
    _of_process("http_requests_in_flight", _GAUGE, "", "Requests that are being answered."),
    _of_process("http_request_bytes_total", _COUNTER, "bytes", "Bytes of request bodies.", "route"),
    _of_process("http_response_bytes_total", _COUNTER, "bytes", "Bytes of answer bodies.", "route"),
    _of_process("http_problems_total", _COUNTER, "", "Requests answered with a problem, by error code.", "code"),
    _of_process("rate_limit_refusals_total", _COUNTER, "", "What a rate limit refused, by limit.", "limit"),
    _of_process("event_streams_open", _GAUGE, "", "Followers of /events."),
    _of_process("long_polls_open", _GAUGE, "", "Requests that wait for work."),
    _of_process("uploads_open", _GAUGE, "", "Updates that are arriving."),
    # Background duties
    _of_process("duty_runs_total", _COUNTER, "", "Runs of a background duty.", "duty"),
    _of_process("duty_failures_total", _COUNTER, "", "Runs that failed.", "duty"),
    _of_process("duty_seconds_total", _COUNTER, "seconds", "Time spent in a duty.", "duty"),
    _of_process("duty_failing", _GAUGE, "", "1 if the last run failed.", "duty"),
    # Storage
    _of_process("database_transactions_total", _COUNTER, "", "Begun: read, write.", "access"),
    _of_process("database_write_wait_seconds_total", _COUNTER, "seconds", "Time that writers waited for their turn."),
    _of_process(
        "database_errors_total", _COUNTER, "", "Transactions that the database failed, by code; busy ones too.", "code"
    ),
    _of_process("blob_operations_total", _COUNTER, "", "Calls of the blob store.", "operation"),
    _of_process("blob_errors_total", _COUNTER, "", "Calls that failed, by error code.", "operation", "code"),
    _of_process("blob_bytes_total", _COUNTER, "bytes", "Bytes of blobs written and read.", "operation"),
    _of_process("disk_free_bytes", _GAUGE, "bytes", "Room left on the disk of the data folder."),
    _of_process("disk_size_bytes", _GAUGE, "bytes", "Size of that disk."),
    # The process
    _of_process("build_info", _GAUGE, "", "1, labelled with what runs here.", "version", "protocol", "python"),
    _of_python("cpu_seconds_total", _COUNTER, "seconds", "Total user and system CPU time spent in seconds."),
    _of_python("resident_memory_bytes", _GAUGE, "bytes", "Resident memory size in bytes."),
    _of_python("virtual_memory_bytes", _GAUGE, "bytes", "Virtual memory size in bytes."),
    _of_python("start_time_seconds", _GAUGE, "seconds", "Start time of the process since unix epoch in seconds."),
    _of_python("open_fds", _GAUGE, "", "Number of open file descriptors."),
    _of_python("max_fds", _GAUGE, "", "Maximum number of open file descriptors."),
)

BY_NAME = {metric.name: metric for metric in METRICS}
