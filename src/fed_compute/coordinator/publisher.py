"""Turns collecting rounds into model versions: folds updates as they come, publishes when a round closes."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from fed_compute.clock import Clock
from fed_compute.coordinator.counted import CountedUpdates
from fed_compute.coordinator.findings import findings
from fed_compute.coordinator.folding import FoldedRound, RoundFold
from fed_compute.coordinator.recipes import spec_of
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.update_traces import UpdateTraces
from fed_compute.coordinator.weighing import in_folding_order, newcomers, weights_of
from fed_compute.errors import (
    AggregateNotFinite,
    BlobCorrupt,
    BlobMissing,
    NothingToAggregate,
    RootUpdateMissing,
    RoundTooSmall,
)
from fed_compute.ids import ClientId, Digest, JobId, RoundId
from fed_compute.protocol import tracing
from fed_compute.protocol.lineage import FIRST_CHAIN, chain_digest
from fed_compute.rounds.machine import ResultUnusable, VersionPublished
from fed_compute.rounds.records import Job, Round, RoundState, Update, Version
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.store import Records, Store

log = structlog.get_logger(__name__)

UNUSABLE = (AggregateNotFinite, NothingToAggregate, RootUpdateMissing, RoundTooSmall)
"""What a round can come to when its updates are sound and yet no version can be made of them."""
LEASE_SECONDS = 60.0
"""How long one worker may fold a round alone before another takes over."""


@dataclass(frozen=True, slots=True)
class _Live:
    """A live round: its job, what its updates come to, and who is known to be new to the job."""

    job: Job
    fold: RoundFold
    newcomers: set[ClientId] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _News:
    """Updates of a live round that are new here; how many the job had counted of their clients, if that matters yet."""

    job: Job
    updates: Sequence[Update]
    counted_before: Mapping[ClientId, int]


class VersionPublisher:
    """Holds one fold per live round in memory. Another process that takes over folds again, to the same bytes."""

    def __init__(self, store: Store, blobs: BlobStore, rounds: RoundManager, *, clock: Clock, worker: str) -> None:
        self._store = store
        self._blobs = blobs
        self._models = ModelStore(blobs, cache_files=2)  # a model and its optimiser's state
        self._rounds = rounds
        self._clock = clock
        self._worker = worker
        self._live: dict[RoundId, _Live] = {}
        self._traces = UpdateTraces(store)
        self._counted = CountedUpdates()

    def advance(self) -> bool:
        """Fold what has arrived, publish what is ready. Say whether anything was done.

        Raises:
            BlobMissing, BlobCorrupt: if an accepted update or the base model is damaged. The round stays
                as it is, for an operator to look at: leaving an accepted update out would break a promise.
                Rounds of other jobs were moved on all the same.
        """
        with self._store.snapshot() as records:
            rounds = records.rounds.in_states([RoundState.COLLECTING, RoundState.AGGREGATING])
            news = [self._news_of(records, round_) for round_ in rounds]
        self._live = {round_.round_id: live for round_ in rounds if (live := self._live.get(round_.round_id))}
        self._traces.keep_only([round_.round_id for round_ in rounds])
        done, damage = False, None
        for round_, new in zip(rounds, news, strict=True):
            try:
                done = self._advance_one(round_, self._take(round_, new)) or done
            except (BlobMissing, BlobCorrupt) as error:
                log.error("round_damaged", round_id=round_.round_id, code=error.code, why=error.message)
                damage = damage or error
        if damage is not None:
            raise damage
        return done

    def _news_of(self, records: Records, round_: Round) -> _News:
        """Read what arrived since the round was last looked at."""
        live = self._live.get(round_.round_id)
        job = records.jobs.get(round_.job_id) if live is None else live.job
        updates = records.updates.of_round(round_.round_id, after=0 if live is None else live.fold.last_update_id)
        clients = [update.client_id for update in updates] if self._may_weigh_anew(job) else []
        return _News(job, updates, self._counted.before(records, round_, clients))

    def _take(self, round_: Round, news: _News) -> _Live:
        """Return what is known of a round, with the news. No body is read yet."""
        live = self._live.get(round_.round_id)
        if live is None:
            live = _Live(news.job, RoundFold(news.job, self._blobs, base_version=round_.base_version))
            self._live[round_.round_id] = live
        if news.counted_before:
            live.newcomers.update(newcomers(news.updates, news.counted_before))
        live.fold.add(news.updates)
        return live

    def _advance_one(self, round_: Round, live: _Live) -> bool:
        if round_.state is RoundState.COLLECTING:
            return self._fold_ahead(round_, live)
        if not self._claim(round_):
            return False
        if tracing.is_on():
            self._fold_told(round_, live.fold)
        with tracing.span(
            "aggregate round",
            attributes={"fed_compute.job": live.job.name, "fed_compute.round_id": round_.round_id},
            links=self._traces.of_round(round_.round_id).values(),
        ):
            self._publish(round_, live)
        del self._live[round_.round_id]
        return True

    def _fold_ahead(self, round_: Round, live: _Live) -> bool:
        """Fold in what waits, but for newcomers beside established clients: what they count is known in the end."""
        if not live.fold.waiting:
            return False
        if tracing.is_on():
            return self._fold_told(round_, live.fold, leaving=live.newcomers)
        return live.fold.fold(leaving=live.newcomers)

    def _may_weigh_anew(self, job: Job) -> bool:
        """Say whether newcomers may come to count less, and whether that would mean to fold again."""
        return self._counted.has_established(job.job_id) and spec_of(job).aggregation.is_plain_average

    def _fold_told(self, round_: Round, fold: RoundFold, *, leaving: Container[ClientId] = ()) -> bool:
        """Fold in what waits, each update within the trace under which it was accepted."""
        ready = [update for update in fold.waiting if update.client_id not in leaving]
        traces = self._traces.of_round(round_.round_id) if ready else {}
        for update in ready:
            parent, told = traces.get(update.update_id), {"fed_compute.task_id": update.task_id}
            with tracing.span("fold update", parent=parent, attributes=told):
                fold.fold(most=1, leaving=leaving)
        return bool(ready)

    def _claim(self, round_: Round) -> bool:
        with self._store.transaction() as records:
            now = self._clock.now()
            return records.rounds.claim(round_.round_id, worker=self._worker, now=now, until=now + LEASE_SECONDS)

    def _publish(self, round_: Round, live: _Live) -> None:
        job, fold = live.job, live.fold
        clients = [update.client_id for update in fold.updates]
        with self._store.snapshot() as records:
            parent = records.versions.get(job.job_id, round_.base_version)
            counted = self._counted.before(records, round_, clients)
        updates = in_folding_order(job, fold.updates, counted)
        weights = weights_of(job, updates, counted, base_version=parent.version)
        optimizer = None if parent.optimizer_digest is None else self._models.get(parent.optimizer_digest)
        try:
            of_each = {update.update_id: weight for update, weight in zip(updates, weights, strict=True)}
            made = fold.finish(self._models.get(parent.digest), optimizer, weights=of_each)
        except UNUSABLE as error:
            with self._store.batch() as records:
                current = records.rounds.get(round_.round_id, for_update=True)
                self._rounds.apply(records, current, ResultUnusable(error.message))
            return
        version = self._version(parent, round_, fold, made)
        found = findings(job, updates, weights, made.outcome, base_version=parent.version)
        with self._store.batch() as records:
            is_ours = self._record(records, version, round_, found)
        if is_ours:
            self._counted.note(version, clients)

    def _version(self, parent: Version, round_: Round, fold: RoundFold, made: FoldedRound) -> Version:
        """Store the files of a new version and return its row."""
        digest = self._models.put(made.model)
        return Version(
            job_id=parent.job_id,
            version=parent.version + 1,
            parent=parent.version,
            round_id=round_.round_id,
            digest=digest,
            optimizer_digest=None if made.state is None else self._models.put(made.state),
            manifest=made.manifest,
            chain=chain_digest(parent.chain, manifest=made.manifest, model=digest),
            num_updates=fold.num_updates,
            num_samples=fold.num_samples,
            created_at=self._clock.now(),
        )

    def _record(self, records: Records, version: Version, round_: Round, found: Mapping[str, Any]) -> bool:
        """Write a version and close its round; say False if another worker published it while this one was folding."""
        current = records.rounds.get(round_.round_id, for_update=True)
        if current.state is not RoundState.AGGREGATING:
            return False
        records.journal.append(
            "round_aggregated", at=version.created_at, job_id=version.job_id, round_id=version.round_id, **found
        )
        publish_version(records, version)
        self._rounds.apply(records, current, VersionPublished(version.version))
        return True


def first_version(job_id: JobId, digest: Digest, *, now: float) -> Version:
    """Return the row of a job's v1, which is made of nothing but its initial parameters."""
    return Version(
        job_id=job_id,
        version=1,
        parent=None,
        round_id=None,
        digest=digest,
        optimizer_digest=None,
        manifest="[]",
        chain=chain_digest(FIRST_CHAIN, manifest="[]", model=digest),
        num_updates=0,
        num_samples=0,
        created_at=now,
    )


def publish_version(records: Records, version: Version) -> None:
    """Write a version and its journal line in the caller's transaction."""
    records.versions.add(version)
    records.journal.append(
        "version_published",
        at=version.created_at,
        job_id=version.job_id,
        round_id=version.round_id,
        version=version.version,
        digest=version.digest,
        num_updates=version.num_updates,
        num_samples=version.num_samples,
    )
