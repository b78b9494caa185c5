"""Measures what each client contributed to each round: a reader of the journal that nobody waits for."""

from dataclasses import dataclass
from typing import cast

import structlog

from fed_compute.coordinator.contribution_records import Contribution, RoundContribution, contribution_of
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.recipes import schema_of, spec_of
from fed_compute.errors import (
    Broken,
    ContributionUnavailable,
    RoundNotFound,
    UpdateRefused,
)
from fed_compute.ids import RoundId, UpdateId
from fed_compute.learning.contribution import (
    MOST_PLAYERS,
    UnitSum,
    cosine_game,
    cosine_to_others,
    exact_shapley,
    leave_one_out,
    next_importances,
    worth_without,
)
from fed_compute.protocol.job import Compression, Encoding
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import decode_update
from fed_compute.rounds.records import Entry, Job, Round, RoundState, Update
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.sql.store import Records, Store

READER = "contribution"
LOOK_AHEAD = 200
READABLE_MODE = "open"
"""The privacy mode in which single updates can be read; in every other one nobody is measured."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ContributionView:
    """One client's contribution. `shapley` is None unless it was asked for."""

    part: Contribution
    leave_one_out: float
    shapley: float | None


class ContributionReader:
    """Follows published versions and measures the updates behind each.

    Memory: one float64 vector and one update at a time, however many a round has; each update is read
    twice. Nothing is locked meanwhile: only the result is written in a transaction.
    """

    def __init__(self, store: Store, blobs: BlobStore) -> None:
        self._store = store
        self._blobs = blobs

    def catch_up(self) -> bool:
        """Measure every round that was published and not measured yet. Say whether there was one."""
        measured = False
        while self._measure_next():
            measured = True
        return measured

    def of_round(self, round_id: int, *, exact: bool = False) -> list[ContributionView]:
        """Return what each client contributed to a round.

        Args:
            round_id: a closed round.
            exact: whether to work out the exact Shapley value too; up to 8 updates, all held in memory.

        Raises:
            RoundNotFound: if there is no such round.
            ContributionUnavailable: if it has no result, was not measured, or has too many updates for `exact`.
        """
        with self._store.snapshot() as records:
            round_ = records.rounds.find(RoundId(round_id))
            if round_ is None:
                raise RoundNotFound(round_id)
            measured, job = contribution_of(records, round_.round_id), records.jobs.get(round_.job_id)
            if measured is None:
                raise _unavailable(round_, job)
            updates = [records.updates.get(part.update_id) for part in measured.parts] if exact else []
        without = [worth_without(part.cosine, length=measured.length) for part in measured.parts]
        lost = leave_one_out(1.0 if measured.length else 0.0, without)
        shapley = self._shapley(job, updates) if exact else [None] * len(lost)
        return [ContributionView(*row) for row in zip(measured.parts, lost, shapley, strict=True)]

    def _measure_next(self) -> bool:
        with self._store.snapshot() as records:
            seq, _ = records.journal.cursor(READER)
            entries = records.journal.after(seq, limit=LOOK_AHEAD)
            due = next((e for e in entries if e.kind == "version_published" and e.round_id is not None), None)
            found = None if due is None else _published(records, due)
        if due is None and len(entries) < LOOK_AHEAD:
            return False  # the cursor stays: moving it would be a commit, which wakes everybody, for nothing
        result = None if found is None else self._measured(*found)
        with self._store.transaction() as records:
            if records.journal.cursor(READER)[0] == seq:
                if due is not None and found is not None and result is not None:
                    _keep(records, due, found[0], result[0], result[1])
                records.journal.move_cursor(READER, (due or entries[-1]).seq, {})
        return True

    def _measured(self, job: Job, updates: list[Update]) -> tuple[float, dict[int, float]] | None:
        """Return the length of the sum, and each update's cosine to it. None if a body cannot be read."""
        try:
            total = UnitSum(schema_of(job).num_parameters)
            for update in updates:
                total.add(self._delta(job, update))
            return total.length, {u.update_id: total.cosine(self._delta(job, u)) for u in updates}
        except (Broken, UpdateRefused) as error:
            log.warning("contribution_not_measured", job=job.name, code=error.code, why=error.message)
            return None

    def _shapley(self, job: Job, updates: list[Update]) -> list[float]:
        if len(updates) > MOST_PLAYERS:
            raise ContributionUnavailable(
                f"the round has {len(updates)} updates, the exact value is worked out for at most {MOST_PLAYERS}; "
                "ask without exact=true"
            )
        return exact_shapley(cosine_game([self._delta(job, update) for update in updates]), len(updates))

    def _delta(self, job: Job, update: Update) -> Vector:
        schema = schema_of(job)
        return decode_update(
            self._blobs.get(update.digest),
            num_parameters=schema.num_parameters,
            schema_digest=schema.digest(),
            encoding=cast(Encoding, update.encoding),
            compression=cast(Compression, update.compression),
            topk_fraction=spec_of(job).wire.topk_fraction,
        ).delta


def _published(records: Records, entry: Entry) -> tuple[Job, list[Update]] | None:
    """Return the job and the updates behind a published version, if single updates of the job can be read."""
    if entry.round_id is None or entry.job_id is None or contribution_of(records, entry.round_id) is not None:
        return None
    job, version = records.jobs.get(entry.job_id), records.versions.of_round(entry.round_id)
    if version is None or spec_of(job).privacy.mode != READABLE_MODE:
        return None
    return job, [records.updates.get(UpdateId(one)) for one, *_ in read_manifest(version.manifest)]


def _keep(records: Records, entry: Entry, job: Job, length: float, cosines: dict[int, float]) -> None:
    updates = [records.updates.get(UpdateId(update_id)) for update_id in cosines]
    by_client: dict[str, float] = {update.client_id: cosines[update.update_id] for update in updates}
    importances, shares = next_importances(records.importances.of_job(job.job_id, by_client), by_client)
    alone = len(updates) < 2
    parts = tuple(
        Contribution(
            client_id=update.client_id,
            update_id=update.update_id,
            cosine=by_client[update.client_id],
            to_others=None if alone else cosine_to_others(by_client[update.client_id], length=length),
            share=shares[update.client_id],
        )
        for update in updates
    )
    records.importances.put(job.job_id, importances)
    kept = RoundContribution(length, parts).to_json()
    records.round_contributions.put(cast(int, entry.round_id), kept, job_id=job.job_id)
    records.journal.append(
        "contribution_measured", at=entry.at, job_id=job.job_id, round_id=entry.round_id, num_clients=len(parts)
    )


def _unavailable(round_: Round, job: Job) -> ContributionUnavailable:
    if round_.state is not RoundState.CLOSED:
        return ContributionUnavailable(f"round {round_.round_id} is {round_.state}; only a closed one can be measured")
    if spec_of(job).privacy.mode != READABLE_MODE:
        return ContributionUnavailable(f"job {job.name!r} keeps single updates secret; nobody's contribution is known")
    return ContributionUnavailable(f"round {round_.round_id} was not measured yet, or an update of it is damaged")
