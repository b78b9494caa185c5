"""The credit ledger: double entry, append only, idempotent. Amounts are whole micro-tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from fed_compute.errors import InvariantBroken, LedgerOverdrawn
from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.bookkeeping import MINT, Granted, GroupKind, Posting, account_of, escrow_of
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import inserted_id

_G, _E, _A = tables.ledger_groups.c, tables.ledger_entries.c, tables.ledger_accounts.c
_GROUP_OF_KEY = select(_G.group_id).where(_G.idempotency_key == bindparam("key"))
_BALANCE = select(_A.account, _A.micro_tokens).where(_A.account.in_(bindparam("accounts", expanding=True)))
_INSERT_GROUP, _INSERT_ENTRY = insert(tables.ledger_groups), insert(tables.ledger_entries)
_INSERT_ACCOUNT = insert(tables.ledger_accounts)
_PUT_BALANCE = (
    update(tables.ledger_accounts).where(_A.account == bindparam("name")).values(micro_tokens=bindparam("balance"))
)

_ROW = [_G.group_id, _G.idempotency_key, _G.kind, _G.client_id, _G.round_id, _G.task_id, _G.team_id]
_ROW += [_G.reason, _G.terms, _G.refers_to, _G.at, _E.account, _E.micro_tokens]


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One group as one client sees it: how much its own credit changed, and how much what is still pending did."""

    group_id: int
    kind: GroupKind
    reason: str
    client_id: ClientId
    round_id: RoundId | None
    task_id: TaskId | None
    at: float
    terms: str
    refers_to: int | None
    settled: int
    pending: int


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One entry with all that its group says; `account` and `micro_tokens` are None in a group without entries."""

    group_id: int
    key: str
    kind: GroupKind
    client_id: ClientId
    round_id: RoundId | None
    task_id: TaskId | None
    team_id: int | None
    reason: str
    terms: str
    refers_to: int | None
    at: float
    account: str | None
    micro_tokens: int | None


class LedgerRows:
    """Groups of entries that each sum to zero, and the balances that follow from them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def post(self, posting: Posting) -> bool:
        """Write a group once for its key; say whether it was new. What was posted first stands.

        Raises:
            InvariantBroken: if the entries do not sum to zero.
            LedgerOverdrawn: if an account other than the mint would fall below zero.
        """
        if self.group_of(posting.key) is not None:
            return False
        if sum(amount for _, amount in posting.entries):
            raise InvariantBroken(f"the entries of {posting.key!r} sum to {sum(n for _, n in posting.entries)}, not 0")
        self._move_balances(posting)
        group = {
            "idempotency_key": posting.key,
            "client_id": posting.client_id,
            "round_id": posting.round_id,
            "reason": posting.reason,
            "at": posting.at,
            "kind": posting.kind,
            "task_id": posting.task_id,
            "team_id": posting.team_id,
            "refers_to": posting.refers_to,
            "terms": posting.terms,
        }
        group_id = inserted_id(self._connection.execute(_INSERT_GROUP, group))
        if posting.entries:
            rows = [{"group_id": group_id, "account": name, "micro_tokens": n} for name, n in posting.entries]
            self._connection.execute(_INSERT_ENTRY, rows)
        return True

    def group_of(self, key: str) -> int | None:
        """Return the group that was posted under a key."""
        return self._connection.execute(_GROUP_OF_KEY, {"key": key}).scalar()

    def balance(self, account: str) -> int:
        """Return the balance of one account, in micro-tokens."""
        row = self._connection.execute(_BALANCE, {"accounts": [account]}).one_or_none()
        return 0 if row is None else int(row.micro_tokens)

    def balances(self, accounts: Sequence[str] | None = None) -> dict[str, int]:
        """Return the balance of every account, or of those of some that there are, in micro-tokens."""
        query = select(_A.account, _A.micro_tokens)
        rows = self._connection.execute(query if accounts is None else query.where(_A.account.in_(accounts)))
        return {account: int(balance) for account, balance in rows}

    def lines_of(
        self, client_id: ClientId, *, after: int = 0, limit: int = 1_000_000, newest_first: bool = False
    ) -> list[LedgerLine]:
        """Return why a client has what it has, oldest first if not told otherwise: groups after number `after`."""
        own, escrow = tables.ledger_entries.alias(), tables.ledger_entries.alias()
        group = [_G.group_id, _G.kind, _G.reason, _G.client_id, _G.round_id, _G.task_id, _G.at, _G.terms, _G.refers_to]
        query = (
            select(*group, func.coalesce(own.c.micro_tokens, 0), func.coalesce(escrow.c.micro_tokens, 0))
            .outerjoin(own, (own.c.group_id == _G.group_id) & (own.c.account == account_of(client_id)))
            .outerjoin(escrow, (escrow.c.group_id == _G.group_id) & (escrow.c.account == escrow_of(client_id)))
            .where(_G.client_id == client_id, _G.group_id > after)
            .where((own.c.micro_tokens.is_not(None)) | (escrow.c.micro_tokens.is_not(None)))
            .order_by(_G.group_id.desc() if newest_first else _G.group_id)
            .limit(limit)
        )
        return [LedgerLine(*row) for row in self._connection.execute(query)]

    def grants_of(self, task_id: TaskId) -> list[tuple[Granted, bool]]:
        """Return every grant for one piece of work, and whether what it put in escrow was released since."""
        group = [_G.group_id, _G.client_id, _G.round_id, _G.task_id, _G.team_id, _G.reason]
        query = select(*group).where(_G.task_id == task_id, _G.kind == GroupKind.GRANT).order_by(_G.group_id)
        return [(self._granted(row), self._released_since(row)) for row in self._connection.execute(query).all()]

    def rows_after(self, group_id: int, *, limit: int) -> list[LedgerRow]:
        """Return the entries of the groups after number `group_id`, at most `limit` groups, in their order."""
        newest = select(_G.group_id).where(_G.group_id > group_id).order_by(_G.group_id).limit(limit).subquery()
        query = (
            select(*_ROW)
            .outerjoin(tables.ledger_entries, _E.group_id == _G.group_id)
            .where(_G.group_id.in_(select(newest.c.group_id)))
            .order_by(_G.group_id, _E.account)
        )
        return [LedgerRow(*row) for row in self._connection.execute(query)]

    def _granted(self, group: Row[Any]) -> Granted:
        query = select(_E.account, _E.micro_tokens).where(_E.group_id == group.group_id)
        amounts = {account: int(amount) for account, amount in self._connection.execute(query)}
        settled = amounts.get(account_of(group.client_id), 0)
        return Granted(**group._mapping, settled=settled, pending=amounts.get(escrow_of(group.client_id), 0))

    def _released_since(self, group: Row[Any]) -> bool:
        later = (_G.client_id == group.client_id, _G.kind == GroupKind.RELEASE, _G.group_id > group.group_id)
        return self._connection.execute(select(_G.group_id).where(*later).limit(1)).first() is not None

    def _move_balances(self, posting: Posting) -> None:
        names = [name for name, _ in posting.entries]
        before = {row.account: int(row.micro_tokens) for row in self._connection.execute(_BALANCE, {"accounts": names})}
        after = {name: before.get(name, 0) + amount for name, amount in posting.entries}
        for name, balance in after.items():
            if balance < 0 and name != MINT:
                raise LedgerOverdrawn(account=name, balance=balance, key=posting.key)
        known = [{"name": name, "balance": balance} for name, balance in after.items() if name in before]
        owner = posting.client_id
        new = [
            {"account": name, "client_id": None if name == MINT else owner, "micro_tokens": balance}
            for name, balance in after.items()
            if name not in before
        ]
        if known:
            self._connection.execute(_PUT_BALANCE, known)
        if new:
            self._connection.execute(_INSERT_ACCOUNT, new)
