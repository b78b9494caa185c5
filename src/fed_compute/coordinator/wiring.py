"""The only place that builds components from settings."""

import os
import secrets
import socket
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from fed_compute.clock import Clock, SystemClock
from fed_compute.coordinator.async_round_manager import AsyncRoundManager
from fed_compute.coordinator.audits import AuditDesk, AuditPlanner
from fed_compute.coordinator.auth import AuthManager
from fed_compute.coordinator.bell import Bell
from fed_compute.coordinator.bulk import BulkAssigner, BulkEvaluations, BulkPipeline, Enrolment
from fed_compute.coordinator.client_desk import ClientDesk
from fed_compute.coordinator.contribution import ContributionReader
from fed_compute.coordinator.controls import ControlDesk
from fed_compute.coordinator.data_dir import DataDir, pepper_from, write_private
from fed_compute.coordinator.evaluations import EvaluationRecorder
from fed_compute.coordinator.incentives import IncentiveManager
from fed_compute.coordinator.invites import InviteDesk
from fed_compute.coordinator.jobs import JobDesk
from fed_compute.coordinator.key_desk import KeyDesk
from fed_compute.coordinator.limits import LimitBook
from fed_compute.coordinator.metrics import MetricsCollector
from fed_compute.coordinator.pace import Pace
from fed_compute.coordinator.pipeline import UpdatePipeline
from fed_compute.coordinator.presence import Presence
from fed_compute.coordinator.proof_of_work import Challenges
from fed_compute.coordinator.publisher import VersionPublisher
from fed_compute.coordinator.rate_limiter import RateLimiter
from fed_compute.coordinator.recovery import Recovery, RecoveryReport
from fed_compute.coordinator.registration import Registrar
from fed_compute.coordinator.reputation import ReputationManager
from fed_compute.coordinator.round_manager import RoundManager
from fed_compute.coordinator.sessions import SessionDesk
from fed_compute.coordinator.settings import CoordinatorSettings
from fed_compute.coordinator.steering import JobSteering
from fed_compute.coordinator.sweeper import Sweeper
from fed_compute.coordinator.task_assigner import TaskAssigner
from fed_compute.coordinator.teams import TeamDesk
from fed_compute.coordinator.update_validator import UpdateValidator
from fed_compute.coordinator.worker import Duty, Worker
from fed_compute.errors import SettingInvalid
from fed_compute.rounds.records import Scope
from fed_compute.storage.blob_stores import IN_PROCESS, open_blobs
from fed_compute.storage.blobs import BlobStore
from fed_compute.storage.counted_blobs import CountedBlobs
from fed_compute.storage.model_store import ModelStore
from fed_compute.storage.sql.database import open_database
from fed_compute.storage.sql.store import Store

ALONE = "alone"
"""The name of a worker that shares its database with nobody."""


@dataclass(frozen=True, slots=True)
class Bulk:
    """The same work for many clients in one transaction, for whoever has them in its own process."""

    enrolment: Enrolment
    tasks: BulkAssigner
    pipeline: BulkPipeline
    evaluations: BulkEvaluations


@dataclass(frozen=True, slots=True)
class Coordinator:
    """Everything one coordinator process consists of."""

    settings: CoordinatorSettings
    clock: Clock
    data_dir: DataDir
    store: Store
    blobs: CountedBlobs
    models: ModelStore
    bell: Bell
    presence: Presence
    auth: AuthManager
    sessions: SessionDesk
    registrar: Registrar
    keys: KeyDesk
    invites: InviteDesk
    clients: ClientDesk
    rate_limiter: RateLimiter
    rounds: RoundManager
    async_rounds: AsyncRoundManager
    tasks: TaskAssigner
    controls: ControlDesk
    limits: LimitBook
    pipeline: UpdatePipeline
    evaluations: EvaluationRecorder
    jobs: JobDesk
    steering: JobSteering
    metrics: MetricsCollector
    reputation: ReputationManager
    incentives: IncentiveManager
    audits: AuditDesk
    contributions: ContributionReader
    teams: TeamDesk
    recovery: Recovery
    bulk: Bulk
    publisher: VersionPublisher
    worker: Worker
    slow_worker: Worker
    """Duties that may take long over one thing; a thread of their own, so that no round waits for them."""

    def start(self) -> RecoveryReport:
        """Take up where the last process stopped, start the background duties, and return what was found.

        Raises:
            BlobMissing: if a file without which training cannot go on is gone; nothing was started.
        """
        report = self.recovery.take_up()
        self.worker.start()
        self.slow_worker.start()
        return report

    def stop(self) -> None:
        """Stop the background duties."""
        self.worker.stop()
        self.slow_worker.stop()

    def close(self) -> None:
        """Stop the duties, close the database and give the data folder back."""
        self.stop()
        self.store.close()
        self.data_dir.release()


def open_coordinator(settings: CoordinatorSettings, *, clock: Clock | None = None) -> Coordinator:
    """Claim the data folder, bring the database up to date, and build a coordinator that is not started yet.

    Raises:
        DataDirUnusable, DataDirInUse: if the data folder cannot be had.
        SchemaUnsupported: if a newer version of the product wrote the database.
        SettingInvalid, ExtraMissing: if a setting cannot be used, or needs a part that is not installed.
        StorageUnreachable, BlobStoreUnusable, RateStoreUnreachable: if a service that it relies on does not serve.
    """
    _require_one_memory(settings)
    data_dir = DataDir(settings.data_dir)
    data_dir.claim()
    with ExitStack() as undo:
        undo.callback(data_dir.release)
        database = open_database(settings.database_url or data_dir.database_url)
        undo.callback(database.close)
        database.migrate()
        coordinator = _build(settings, clock or SystemClock(), data_dir, Store(database))
        _ensure_operator_key(coordinator)
        undo.pop_all()
    return coordinator


def _require_one_memory(settings: CoordinatorSettings) -> None:
    """Refuse records that outlive their blobs: what was accepted would be lost with the process.

    Raises:
        SettingInvalid: if blobs are kept in the process and records elsewhere.
    """
    if settings.blob_url == IN_PROCESS and settings.database_url != "sqlite://":
        raise SettingInvalid(
            f"blob_url {IN_PROCESS} keeps updates in the process only; set database_url to sqlite://, which forgets "
            "with it, or leave blob_url out"
        )


def _build(settings: CoordinatorSettings, clock: Clock, data_dir: DataDir, store: Store) -> Coordinator:
    blobs = CountedBlobs(open_blobs(settings.blob_url, data_dir.blobs))
    models, bell, presence = ModelStore(blobs), Bell(), Presence(store, clock)
    store.on_commit(bell.ring)
    access = _access(settings, clock, _peppers(settings, data_dir, store), store, presence)
    auth, limiter = access.auth, RateLimiter(settings.quotas(), url=settings.rate_limit_url, clock=clock)
    rounds = RoundManager(store, clock, active_seconds=settings.active_seconds, served_as=settings.applied_to)
    tasks = _assigner(settings, clock, store, rounds)
    books, limits = _books(settings, clock, store, blobs), _limits(settings, store, models)
    publisher = VersionPublisher(store, blobs, rounds, clock=clock, worker=_worker_name(settings))
    rounds_duties = _duties_of_rounds(tasks, rounds, publisher)
    validator = UpdateValidator(store, auth, limiter, limits)
    sweep = Duty("sweep", Sweeper(store, blobs, clock).sweep)
    return Coordinator(
        settings=settings,
        clock=clock,
        data_dir=data_dir,
        store=store,
        blobs=blobs,
        models=models,
        bell=bell,
        presence=presence,
        auth=auth,
        sessions=access.sessions,
        registrar=access.registrar,
        keys=KeyDesk(store, auth, clock),
        invites=access.invites,
        clients=ClientDesk(store, tasks, clock),
        rate_limiter=limiter,
        rounds=rounds,
        async_rounds=AsyncRoundManager(store, clock),
        tasks=tasks,
        controls=ControlDesk(store, models),
        limits=limits,
        pipeline=UpdatePipeline(store, blobs, validator, rounds),
        evaluations=EvaluationRecorder(store, clock),
        jobs=JobDesk(store, models, rounds, clock),
        steering=JobSteering(store, rounds, tasks, clock),
        metrics=books.metrics,
        reputation=books.reputation,
        incentives=books.incentives,
        audits=books.audits,
        contributions=books.contributions,
        teams=TeamDesk(store, clock),
        recovery=Recovery(store, blobs, tasks, clock),
        bulk=_bulk(settings, store, blobs, clock, validator, rounds),
        publisher=publisher,
        worker=Worker([Duty("presence", presence.flush), *rounds_duties, *books.duties(), sweep], bell),
        slow_worker=Worker([Duty("contributions", books.contributions.catch_up)], bell),
    )


def _duties_of_rounds(tasks: TaskAssigner, rounds: RoundManager, publisher: VersionPublisher) -> list[Duty]:
    return [
        Duty("leases", tasks.expire_leases),
        Duty("rounds", rounds.look_at_all),
        Duty("versions", publisher.advance),
    ]


def _bulk(
    settings: CoordinatorSettings,
    store: Store,
    blobs: BlobStore,
    clock: Clock,
    validator: UpdateValidator,
    rounds: RoundManager,
) -> Bulk:
    return Bulk(
        Enrolment(store, clock),
        BulkAssigner(store, rounds, clock, heartbeat_seconds=settings.heartbeat_seconds),
        BulkPipeline(store, blobs, validator, rounds),
        BulkEvaluations(store, clock, heartbeat_seconds=settings.heartbeat_seconds),
    )


def _assigner(settings: CoordinatorSettings, clock: Clock, store: Store, rounds: RoundManager) -> TaskAssigner:
    pace = Pace(clock, checkins_per_second=settings.checkins_per_second)
    return TaskAssigner(store, rounds, clock, pace, heartbeat_seconds=settings.heartbeat_seconds)


def _limits(settings: CoordinatorSettings, store: Store, models: ModelStore) -> LimitBook:
    return LimitBook(store, models, max_update_norm=settings.max_update_norm, max_num_samples=settings.max_num_samples)


@dataclass(frozen=True, slots=True)
class _Books:
    metrics: MetricsCollector
    reputation: ReputationManager
    incentives: IncentiveManager
    audit_planner: AuditPlanner
    audits: AuditDesk
    contributions: ContributionReader

    def duties(self) -> list[Duty]:
        return [
            Duty("metrics", self.metrics.catch_up),
            Duty("reputation", self.reputation.catch_up),
            Duty("incentives", self.incentives.catch_up),
            Duty("audit_plans", self.audit_planner.catch_up),
            Duty("audits", self.audits.close_overdue),
        ]


def _books(settings: CoordinatorSettings, clock: Clock, store: Store, blobs: BlobStore) -> _Books:
    """Build what follows the journal."""
    return _Books(
        MetricsCollector(store),
        ReputationManager(store, clock, settings.quota_rules()),
        IncentiveManager(store, clock, settings.reward_rules()),
        AuditPlanner(store, clock, np.random.default_rng()),
        AuditDesk(store, clock),
        ContributionReader(store, blobs),
    )


@dataclass(frozen=True, slots=True)
class _Access:
    auth: AuthManager
    sessions: SessionDesk
    invites: InviteDesk
    registrar: Registrar


def _access(
    settings: CoordinatorSettings, clock: Clock, peppers: "_Peppers", store: Store, presence: Presence
) -> _Access:
    """Build what decides who comes in: all of it rests on the peppers."""
    auth = AuthManager(
        store,
        clock,
        pepper=peppers.present,
        previous_pepper=peppers.previous,
        on_use=presence.note_key,
    )
    invites = InviteDesk(store, clock, pepper=peppers.present, previous_pepper=peppers.previous)
    challenges = Challenges(clock, pepper=peppers.present, difficulty_bits=settings.difficulty_bits)
    sessions = SessionDesk(store, auth, clock, pepper=peppers.present)
    return _Access(auth, sessions, invites, Registrar(settings.registration, auth, invites, challenges))


def _worker_name(settings: CoordinatorSettings) -> str:
    """Return a name that no other process has: containers may share host name and process number.

    Whoever has a database of its own is alone on it: after a crash it takes up at once what it had claimed.
    """
    if settings.database_url is None:
        return ALONE
    return f"{socket.gethostname()[:40]}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class _Peppers:
    present: bytes
    previous: bytes | None


def _peppers(settings: CoordinatorSettings, data_dir: DataDir, store: Store) -> _Peppers:
    """Return the secret under which keys are kept, the one given or the data folder's own, and the one before it.

    Raises:
        SettingInvalid: if the one given is too short, or none is given and the database holds keys of another one.
    """
    given = settings.previous_pepper
    previous = data_dir.previous_pepper() if given is None else pepper_from(given.get_secret_value())
    if settings.pepper is not None:
        return _Peppers(pepper_from(settings.pepper.get_secret_value()), previous)
    if not data_dir.pepper_file.exists() and previous is None and _has_operator(store):
        raise SettingInvalid(
            "the database holds keys made under a pepper that this data directory does not have; give every replica "
            "the same FED_COMPUTE_PEPPER, or put the file `pepper` of the first data directory back"
        )
    return _Peppers(data_dir.pepper(), previous)


def _ensure_operator_key(coordinator: Coordinator) -> None:
    """Make the operator's key on the first start, or when its file was removed. It is never logged.

    Replicas, who share a pepper, share the key as well: the one that starts first writes it down.
    """
    file, auth = coordinator.data_dir.operator_key, coordinator.auth

    def keep(text: str) -> None:
        write_private(file, text + "\n")

    if coordinator.settings.pepper is not None or not _has_operator(coordinator.store):
        auth.first_operator_key(keep=keep)
    elif not file.exists():
        auth.issue_operator_key(keep=keep)


def _has_operator(store: Store) -> bool:
    with store.snapshot() as records:
        return any(key.revoked_at is None for key in records.keys.of_scope(Scope.OPERATOR))
