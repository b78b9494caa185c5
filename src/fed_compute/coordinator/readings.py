"""Everything that the records say about how things stand, read at one moment for a scrape.

Costs a few rows for each job and one pass over the clients and the live leases; nothing grows with the rounds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fed_compute.coordinator import audits, incentives, metrics, reputation
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.coordinator.totals import JobTotals, totals_in
from fed_compute.ids import JobId
from fed_compute.rounds.bookkeeping import MINT
from fed_compute.rounds.records import LIVE_ROUND_STATES, ClientState, Job, JobState, Round, TaskKind
from fed_compute.storage.sql.store import Records, Store

PHASES = tuple(str(state) for state in LIVE_ROUND_STATES)
JOB_STATES = tuple(str(state) for state in JobState)
READERS = tuple(sorted(room.READER for room in (audits, incentives, metrics, reputation)))
"""Who follows the journal line by line. The measuring of contributions goes from version to version."""


@dataclass(frozen=True, slots=True)
class JobReading:
    """One job. `num_updates` are those of the live round."""

    job: Job
    num_parameters: int
    rounds_planned: int
    latest_version: int
    live: Round | None
    num_updates: int
    totals: JobTotals


@dataclass(frozen=True, slots=True)
class Readings:
    """What is on record. Every replica reads the same.

    `clients` are counted by state; `leases` tells by job and kind how many are live, and how many of those past their
    deadline; `events` how many lines of each kind the journal had when its reader was there last; `refusals` how many
    updates were refused by which code; `lags` how many lines each reader has still to read.
    """

    jobs: Sequence[JobReading]
    clients: Mapping[str, int]
    clients_present: int
    leases: Mapping[tuple[JobId, TaskKind], tuple[int, int]]
    events: Mapping[str, int]
    refusals: Mapping[str, int]
    lags: Mapping[str, int]
    credit_micro_tokens: int


def read(store: Store, *, now: float, seen_since: float) -> Readings:
    """Read everything at one moment. Clients heard of at or after `seen_since` (Unix seconds) are present."""
    with store.snapshot() as records:
        jobs, last_seq, cursors = records.jobs.all(), records.journal.last_seq(), records.journal.cursors()
        _, state = records.journal.cursor(metrics.READER)
        counted, totals = state.get(metrics.EVENTS, {}), state.get(metrics.JOBS, {})
        counted_clients = records.measured.count_clients()
        return Readings(
            jobs=[_job(records, job, totals_in(totals, job.job_id)) for job in jobs],
            clients={str(state): counted_clients.get(state, 0) for state in ClientState},
            clients_present=records.clients.count(seen_since=seen_since),
            leases=records.measured.count_leases(now=now),
            events={kind: count for kind, count in counted.items() if not kind.startswith(metrics.REFUSED)},
            refusals={
                kind.removeprefix(metrics.REFUSED): count
                for kind, count in counted.items()
                if kind.startswith(metrics.REFUSED)
            },
            lags={reader: last_seq - cursors.get(reader, 0) for reader in READERS},
            credit_micro_tokens=-records.ledger.balance(MINT),
        )


def _job(records: Records, job: Job, counted: JobTotals) -> JobReading:
    live = records.rounds.live(job.job_id)
    return JobReading(
        job=job,
        num_parameters=schema_of(job).num_parameters,
        rounds_planned=spec_of(job).rounds.total,
        latest_version=records.versions.latest(job.job_id).version if live is None else live.base_version,
        live=live,
        num_updates=0 if live is None else records.updates.count(live.round_id),
        totals=counted,
    )
