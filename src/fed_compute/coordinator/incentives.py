"""Reads the journal and pays for counted updates, each reason one line in the ledger."""

from dataclasses import dataclass

from fed_compute.coordinator.folding import read_manifest
from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.errors import ClientNotFound
from fed_compute.ids import ClientId, UpdateId
from fed_compute.rounds.records import Entry, TaskKind, Update
from fed_compute.rounds.rewards import RewardRules, rewards_for
from fed_compute.storage.sql.ledger import LedgerLine, account_of
from fed_compute.storage.sql.store import Records, Store

READER = "incentives"


@dataclass(frozen=True, slots=True)
class Balance:
    """What a client has earned, in micro-tokens, and every reason why."""

    client_id: ClientId
    micro_tokens: int
    lines: list[LedgerLine]


class IncentiveManager:
    """Folds the journal through `rounds.rewards` into an append-only ledger. Nobody calls it on an update's way.

    Rules that change later change nothing that was paid: a line is never recomputed.
    """

    def __init__(self, store: Store, rules: RewardRules) -> None:
        self._store = store
        self._rules = rules

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        return catch_up(self._store, READER, self._fold)

    def balances(self) -> dict[ClientId, int]:
        """Return every registered client's balance in micro-tokens, by client id."""
        self.catch_up()
        with self._store.snapshot() as records:
            balances = records.ledger.balances()
            return {c.client_id: balances.get(account_of(c.client_id), 0) for c in records.clients.all()}

    def of(self, client_id: str) -> Balance:
        """Return one client's balance with its reasons.

        Raises:
            ClientNotFound: if no such client is registered.
        """
        self.catch_up()
        with self._store.snapshot() as records:
            client = records.clients.find(ClientId(client_id))
            if client is None:
                raise ClientNotFound(client_id)
            lines = records.ledger.lines_of(client.client_id)
        return Balance(client.client_id, sum(line.micro_tokens for line in lines), lines)

    def _fold(self, records: Records, entry: Entry, payload: Payload, state: State) -> None:
        match entry.kind:
            case "update_accepted" if entry.client_id is not None:
                _remember(records, entry.client_id, came=True)
            case "update_refused" if entry.client_id is not None:
                _remember(records, entry.client_id, came=False)
            case "task_expired" if entry.client_id is not None and payload["task"] == TaskKind.TRAIN:
                _remember(records, entry.client_id, came=False, dropped=True)
            case "version_published" if entry.round_id is not None and entry.job_id is not None:
                version = records.versions.get(entry.job_id, payload["version"])
                for update_id, _, _ in read_manifest(version.manifest):
                    self._pay(records, records.updates.get(UpdateId(update_id)), at=entry.at)

    def _pay(self, records: Records, update: Update, *, at: float) -> None:
        task = records.tasks.get(update.task_id)
        memory = records.earnings.get(update.client_id) or {}
        rewards = rewards_for(
            self._rules,
            latency_seconds=update.received_at - task.leased_at,
            streak=memory.get("streak", 0),
            dropped_before=memory.get("dropped", False),
        )
        for reward in rewards:
            records.ledger.grant(
                f"update:{update.update_id}:{reward.reason}",
                client_id=update.client_id,
                round_id=update.round_id,
                reason=reward.reason,
                micro_tokens=reward.micro_tokens,
                at=at,
            )
        records.earnings.put(update.client_id, {**memory, "dropped": False})


def _remember(records: Records, client_id: ClientId, *, came: bool, dropped: bool = False) -> None:
    """Count the streak up, or start it again at 0, and note a dropout."""
    memory = records.earnings.get(client_id) or {"streak": 0, "dropped": False}
    counted = memory["streak"] + 1 if came else 0
    records.earnings.put(client_id, {"streak": counted, "dropped": dropped or memory["dropped"]})
