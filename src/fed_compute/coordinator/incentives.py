"""Reads the journal and pays for work, each reason one group in the ledger."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from fed_compute.clock import Clock
from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.errors import ClientNotFound, GrantNotFound
from fed_compute.ids import ClientId, TaskId, UpdateId
from fed_compute.rounds.audits import Verdict
from fed_compute.rounds.bookkeeping import Granted, PaidWork, account_of, escrow_of, grant, release, reversals
from fed_compute.rounds.records import Entry, Task, TaskKind, UpdateState
from fed_compute.rounds.rewards import (
    MICRO,
    Earner,
    Reward,
    RewardRules,
    Work,
    late_reward,
    recent_average,
    rewards_for,
)
from fed_compute.rounds.scoring import NEWCOMER_RESULTS
from fed_compute.storage.sql.ledger import LedgerLine
from fed_compute.storage.sql.store import Records, Store

READER = "incentives"
LONGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Holding:
    """What a client has earned, in micro-tokens: its own, and what is pending in escrow."""

    settled: int = 0
    pending: int = 0

    @property
    def micro_tokens(self) -> int:
        """All that was earned."""
        return self.settled + self.pending


@dataclass(frozen=True, slots=True)
class Balance:
    """What a client has, and why. `recent_average` is in tokens a day; `results_to_release` 0 if nothing is held."""

    client_id: ClientId
    holding: Holding
    recent_average: float
    results_to_release: int
    lines: list[LedgerLine]


@dataclass(frozen=True, slots=True)
class Reversal:
    """Credit that was taken back. `is_repeated` says that it had been already."""

    client_id: ClientId
    task_id: TaskId
    micro_tokens: int
    is_repeated: bool


class IncentiveManager:
    """Folds the journal through `rounds.rewards` into an append-only ledger. Nobody calls it on an update's way.

    Rules that change later change nothing that was paid: what was posted first for a key stands.
    """

    def __init__(self, store: Store, clock: Clock, rules: RewardRules) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        return catch_up(self._store, READER, self._fold)

    def holdings(self) -> dict[ClientId, Holding]:
        """Return what every registered client has, by client id."""
        self.catch_up()
        with self._store.snapshot() as records:
            balances = records.ledger.balances()
            return {client.client_id: _holding(balances, client.client_id) for client in records.clients.all()}

    def holdings_of(self, clients: Sequence[ClientId]) -> dict[ClientId, Holding]:
        """Return what some clients have, at most a thousand, by client id."""
        self.catch_up()
        accounts = [name for client in clients for name in (account_of(client), escrow_of(client))]
        with self._store.snapshot() as records:
            balances = records.ledger.balances(accounts)
        return {client: _holding(balances, client) for client in clients}

    def of(self, client_id: str, *, after: int = 0, limit: int = LONGEST_PAGE) -> Balance:
        """Return what one client has, with the reasons after ledger group `after`, at most `limit`, oldest first.

        Raises:
            ClientNotFound: if no such client is registered.
        """
        self.catch_up()
        with self._store.snapshot() as records:
            client = records.clients.find(ClientId(client_id))
            if client is None:
                raise ClientNotFound(client_id)
            earner = earner_of(records, client.client_id)
            own, escrow = account_of(client.client_id), escrow_of(client.client_id)
            return Balance(
                client_id=client.client_id,
                holding=Holding(records.ledger.balance(own), records.ledger.balance(escrow)),
                recent_average=average_now(earner, now=self._clock.now()),
                results_to_release=max(0, NEWCOMER_RESULTS - earner.valid_in_a_row),
                lines=records.ledger.lines_of(client.client_id, after=after, limit=limit),
            )

    def reverse(self, task_id: str, *, note: str) -> Reversal:
        """Take back, on an operator's word, all that was paid for one task. Doing it twice changes nothing.

        Raises:
            GrantNotFound: if nothing was paid for it.
        """
        self.catch_up()
        with self._store.transaction() as records:
            at = self._clock.now()
            grants = records.ledger.grants_of(TaskId(task_id))
            if not grants:
                raise GrantNotFound(task_id)
            client_id, is_new = grants[0][0].client_id, _reverse(records, grants, reason="operator", note=note, at=at)
            amount = sum(granted.settled + granted.pending for granted, _ in grants)
            if is_new:
                records.journal.append(
                    "credit_reversed", at=at, client_id=client_id, task_id=TaskId(task_id), micro_tokens=amount
                )
            return Reversal(client_id, TaskId(task_id), amount, is_repeated=not is_new)

    def _fold(self, records: Records, entry: Entry, payload: Payload, state: State) -> None:
        match entry.kind:
            case "version_published" if entry.round_id is not None and entry.job_id is not None:
                version = records.versions.get(entry.job_id, payload["version"])
                for update_id, *_ in read_manifest(version.manifest):
                    self._pay(records, UpdateId(update_id), at=entry.at)
            case "round_abandoned" if entry.round_id is not None:
                for update in records.updates.of_round(entry.round_id):
                    if update.state is UpdateState.LATE:
                        task = replace(records.tasks.get(update.task_id), round_id=update.round_id)
                        self._pay_late(records, task, at=entry.at)
            case _ if entry.client_id is not None:
                self._note(records, entry, payload, entry.client_id)

    def _note(self, records: Records, entry: Entry, payload: Payload, client_id: ClientId) -> None:
        earner = earner_of(records, client_id)
        match entry.kind:
            case "update_accepted" if entry.task_id is not None:
                earner = earner.came()
                if earner.valid_in_a_row == NEWCOMER_RESULTS:
                    _release(records, client_id, entry.task_id, at=entry.at)
            case "update_refused":
                earner = earner.refused()
            case "task_expired" if payload["task"] == TaskKind.TRAIN:
                earner = earner.dropped_out()
            case "audit_closed" if payload["verdict"] == Verdict.FAILED and entry.task_id is not None:
                earner = earner.failed_audit()
                note = f"audit {payload['audit_id']} found that the update does harm"
                pending = [one for one in records.ledger.grants_of(entry.task_id) if _is_pending(*one)]
                _reverse(records, pending, reason="audit_failed", note=note, at=entry.at)
            case "update_late" if entry.task_id is not None and earner.may_be_paid_late:
                return self._pay_late(records, records.tasks.get(entry.task_id), at=entry.at)
            case _:
                return None
        return _remember(records, client_id, earner)

    def _pay(self, records: Records, update_id: UpdateId, *, at: float) -> None:
        update = records.updates.get(update_id)
        task, earner = records.tasks.get(update.task_id), earner_of(records, update.client_id)
        round_ = records.rounds.get(update.round_id)
        work = Work(
            latency_seconds=max(0.0, update.received_at - task.leased_at),
            deadline_seconds=round_.soft_seconds or round_.deadline_seconds,
            streak=earner.streak,
            dropped_before=earner.dropped,
        )
        counted = replace(task, round_id=update.round_id)
        _post(records, counted, earner, rewards_for(self._rules, work), at=at, counted=True)

    def _pay_late(self, records: Records, task: Task, *, at: float) -> None:
        earner = earner_of(records, task.client_id)
        _post(records, task, earner, [late_reward(self._rules)], at=at, counted=False)


def earner_of(records: Records, client_id: ClientId) -> Earner:
    """Return what the incentives remember of a client."""
    return Earner(**(records.earnings.get(client_id) or {}))


def earners_of(records: Records, clients: Sequence[ClientId]) -> dict[ClientId, Earner]:
    """Return what the incentives remember of some clients."""
    kept = records.earnings.some(clients)
    return {client: Earner(**kept.get(client, {})) for client in clients}


def average_now(earner: Earner, *, now: float) -> float:
    """Return a client's recent average at `now`, in tokens a day."""
    if earner.average_at is None:
        return 0.0
    return recent_average(earner.average, last_at=earner.average_at, now=now, began_at=now, amount=0.0)


def _post(records: Records, task: Task, earner: Earner, rewards: list[Reward], *, at: float, counted: bool) -> None:
    """Pay for one piece of work, unless it was paid already: a reader that begins anew pays nobody twice.

    The first reason, which is always there, decides that for all: under other rules there may be more of them.
    """
    work = PaidWork(task.client_id, task.round_id, task.task_id, records.teams.team_of(task.client_id))
    in_escrow = earner.valid_in_a_row < NEWCOMER_RESULTS
    first, *others = [grant(reward, work, in_escrow=in_escrow, at=at) for reward in rewards]
    if records.ledger.post(first):
        for posting in others:
            records.ledger.post(posting)
    tokens = sum(reward.micro_tokens for reward in rewards) / MICRO
    earned = earner.earned(tokens, at=at, began_at=task.leased_at, counted=counted)
    _remember(records, task.client_id, earned)


def _release(records: Records, client_id: ClientId, task_id: TaskId, *, at: float) -> None:
    held = records.ledger.balance(escrow_of(client_id))
    records.ledger.post(release(client_id, held, task_id=task_id, at=at))  # noted even when there is nothing to move


def _is_pending(granted: Granted, released: bool) -> bool:
    """Say whether a grant is still in escrow. An audit takes back no other: what is settled, only a person may."""
    return granted.pending != 0 and not released


def _reverse(records: Records, grants: list[tuple[Granted, bool]], *, reason: str, note: str, at: float) -> bool:
    """Take grants of one task back; say whether that is news."""
    return any([records.ledger.post(one) for one in reversals(grants, reason=reason, note=note, at=at)])


def _holding(balances: dict[str, int], client_id: ClientId) -> Holding:
    return Holding(balances.get(account_of(client_id), 0), balances.get(escrow_of(client_id), 0))


def _remember(records: Records, client_id: ClientId, earner: Earner) -> None:
    records.earnings.put(client_id, asdict(earner))
