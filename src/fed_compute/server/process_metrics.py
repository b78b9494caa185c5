"""The metrics of one process: what it has done since it began, and what it holds now."""

import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import version

from prometheus_client import ProcessCollector
from prometheus_client.metrics_core import Metric

from fed_compute.coordinator.wiring import Coordinator
from fed_compute.server.dependencies import HIGHEST_PROTOCOL, ServerState
from fed_compute.server.families import counted

_RUNNING = (version("fed-compute"), str(HIGHEST_PROTOCOL), platform.python_version())
_PROCESS = ProcessCollector(registry=None)


def of_process(state: ServerState) -> Iterator[Metric]:
    """Yield every family of the process, also those without a value."""
    yield from state.instruments.collect()
    yield counted("long_polls_open", {(): state.news.waiting_room.num_waiting})
    yield counted("uploads_open", {(): state.seats.num_taken})
    yield from _duties(state.coordinator)
    yield from _storage(state.coordinator)
    refusals = {(str(limit),): count for limit, count in state.coordinator.rate_limiter.refusals.read().items()}
    yield counted("rate_limit_refusals_total", refusals)
    yield counted("build_info", {_RUNNING: 1})
    yield from _PROCESS.collect()


def _duties(core: Coordinator) -> Iterator[Metric]:
    records = {**core.worker.records(), **core.slow_worker.records()}
    yield counted("duty_runs_total", {(name,): record.runs for name, record in records.items()})
    yield counted("duty_failures_total", {(name,): record.failures for name, record in records.items()})
    yield counted("duty_seconds_total", {(name,): record.seconds for name, record in records.items()})
    yield counted("duty_failing", {(name,): float(record.error is not None) for name, record in records.items()})


def _storage(core: Coordinator) -> Iterator[Metric]:
    load, blobs = core.store.load, core.blobs
    begun, waited = load.begun.read(), load.waited_seconds.read()
    yield counted("database_transactions_total", {(access,): begun.get(access, 0) for access in ("read", "write")})
    yield counted("database_write_wait_seconds_total", {(): waited.get("write", 0.0)})
    yield counted("database_errors_total", {(code,): count for code, count in load.failed.read().items()})
    yield counted("blob_operations_total", {(operation,): count for operation, count in blobs.calls.read().items()})
    yield counted("blob_errors_total", blobs.errors.read())
    yield counted("blob_bytes_total", {(operation,): size for operation, size in blobs.num_bytes.read().items()})
    disk = shutil.disk_usage(core.settings.data_dir)
    yield counted("disk_free_bytes", {(): disk.free})
    yield counted("disk_size_bytes", {(): disk.total})
