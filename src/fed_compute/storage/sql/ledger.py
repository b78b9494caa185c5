"""The credit ledger: double entry, append only, idempotent. Amounts are whole micro-tokens."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, insert, select

from fed_compute.ids import ClientId, RoundId
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.rows import inserted_id

MINT = "mint"
"""The account that every grant comes from; its balance is minus what was ever granted."""


def account_of(client_id: ClientId) -> str:
    """Return the account of a client."""
    return f"client:{client_id}"


@dataclass(frozen=True, slots=True)
class LedgerLine:
    """One reason why a client's balance changed."""

    group_id: int
    client_id: ClientId
    round_id: RoundId | None
    reason: str
    micro_tokens: int
    at: float


class LedgerRows:
    """Groups of entries that each sum to zero."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def grant(
        self, key: str, *, client_id: ClientId, round_id: RoundId | None, reason: str, micro_tokens: int, at: float
    ) -> bool:
        """Move micro-tokens from the mint to a client, once per `key`. Say whether it was new."""
        known = select(tables.ledger_groups.c.group_id).where(tables.ledger_groups.c.idempotency_key == key)
        if self._connection.execute(known).first() is not None:
            return False
        group = insert(tables.ledger_groups).values(
            idempotency_key=key, client_id=client_id, round_id=round_id, reason=reason, at=at
        )
        group_id = inserted_id(self._connection.execute(group))
        entries = [
            {"group_id": group_id, "account": MINT, "micro_tokens": -micro_tokens},
            {"group_id": group_id, "account": account_of(client_id), "micro_tokens": micro_tokens},
        ]
        self._connection.execute(insert(tables.ledger_entries), entries)
        return True

    def lines_of(self, client_id: ClientId) -> list[LedgerLine]:
        """Return why a client has what it has, oldest first."""
        groups, entries = tables.ledger_groups, tables.ledger_entries
        query = (
            select(
                groups.c.group_id,
                groups.c.client_id,
                groups.c.round_id,
                groups.c.reason,
                entries.c.micro_tokens,
                groups.c.at,
            )
            .join(entries, entries.c.group_id == groups.c.group_id)
            .where(entries.c.account == account_of(client_id))
            .order_by(groups.c.group_id)
        )
        return [LedgerLine(*row) for row in self._connection.execute(query)]

    def balances(self) -> dict[str, int]:
        """Return the balance of every account, in micro-tokens."""
        entries = tables.ledger_entries
        query = select(entries.c.account, func.sum(entries.c.micro_tokens)).group_by(entries.c.account)
        return {account: int(total) for account, total in self._connection.execute(query)}

    def unbalanced_groups(self) -> list[int]:
        """Return the groups whose entries do not sum to zero; always none."""
        entries = tables.ledger_entries
        query = select(entries.c.group_id).group_by(entries.c.group_id).having(func.sum(entries.c.micro_tokens) != 0)
        return list(self._connection.execute(query).scalars())
