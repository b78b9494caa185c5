"""The ledger against the work: sums, balances, and one grant for each counted update, no more and no less."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fed_compute.coordinator.incentives import READER
from fed_compute.ids import RoundId, TaskId
from fed_compute.rounds.bookkeeping import MINT, GroupKind
from fed_compute.rounds.records import Round, RoundState, Task, TaskState, Update
from fed_compute.storage.sql.ledger import LedgerRow
from fed_compute.storage.sql.store import Records

GROUPS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Books:
    """The ledger from one moment: every row, the balances on record, and how far the reader who writes it got.

    `published_at` is the journal's number of each round's publication.
    """

    rows: list[LedgerRow]
    balances: dict[str, int]
    cursor: int
    published_at: Mapping[RoundId, int]


def read_books(records: Records, published_at: Mapping[RoundId, int]) -> Books:
    """Return the ledger as it is."""
    rows: list[LedgerRow] = []
    while page := records.ledger.rows_after(rows[-1].group_id if rows else 0, limit=GROUPS_AT_ONCE):
        rows += page
    cursor, _ = records.journal.cursor(READER)
    return Books(rows, records.ledger.balances(), cursor, published_at)


def ledger_breaches(
    books: Books, *, updates: list[Update], tasks: list[Task], rounds: Mapping[RoundId, Round]
) -> Iterator[str]:
    """Yield what is wrong with the books, and where they and the work disagree."""
    yield from _sums(books)
    yield from _reversals(books)
    yield from _payments(books, updates, tasks, rounds)


def _sums(books: Books) -> Iterator[str]:
    groups: dict[int, int] = defaultdict(int)
    balances: dict[str, int] = defaultdict(int)
    for row in books.rows:
        if row.account is not None and row.micro_tokens is not None:
            groups[row.group_id] += row.micro_tokens
            balances[row.account] += row.micro_tokens
            if balances[row.account] < 0 and row.account != MINT:
                yield f"account {row.account} falls to {balances[row.account]} in group {row.group_id}"
    yield from (f"ledger group {group} sums to {total}, not to zero" for group, total in groups.items() if total)
    if total := sum(balances.values()):
        yield f"all accounts together hold {total} micro-tokens, not zero"
    for account in sorted(balances.keys() | books.balances.keys()):
        if (kept := books.balances.get(account, 0)) != balances.get(account, 0):
            yield f"account {account} is kept as {kept}, its entries sum to {balances.get(account, 0)}"


def _reversals(books: Books) -> Iterator[str]:
    minted: dict[int, int] = defaultdict(int)
    for row in books.rows:
        minted[row.group_id] += row.micro_tokens or 0 if row.account == MINT else 0
    kinds = {row.group_id: (row.kind, row.task_id) for row in books.rows}
    targets: dict[int, int] = {}
    for row in books.rows:
        if row.kind is not GroupKind.REVERSAL or row.group_id in targets:
            continue
        old = row.refers_to
        if old is None or kinds.get(old) != (GroupKind.GRANT, row.task_id) or minted[old] != -minted[row.group_id]:
            yield f"group {row.group_id} takes back group {old}, which is no grant of the same work and amount"
        elif old in targets.values():
            yield f"group {old} is taken back twice"
        targets[row.group_id] = old or 0


def _payments(books: Books, updates: list[Update], tasks: list[Task], rounds: Mapping[RoundId, Round]) -> Iterator[str]:
    counted = {u.task_id: u for u in updates if rounds[u.round_id].state is RoundState.CLOSED}
    given_up = {u.task_id for u in updates if rounds[u.round_id].state is RoundState.ABANDONED}
    late = given_up | {task.task_id for task in tasks if task.state in (TaskState.LATE, TaskState.OVERDUE)}
    owners = {task.task_id: task.client_id for task in tasks}
    paid: set[tuple[TaskId | None, str]] = set()
    for row in {row.group_id: row for row in books.rows if row.kind is GroupKind.GRANT}.values():
        if (row.task_id, row.reason) in paid:
            yield f"task {row.task_id} of {row.client_id} is paid twice for {row.reason!r}"
        paid.add((row.task_id, row.reason))
        is_work = row.task_id in (late if row.reason == "late" else counted)
        if not is_work or row.task_id is None or owners[row.task_id] != row.client_id:
            yield f"{row.client_id} was paid {row.reason!r} for task {row.task_id}, which is no such work of it"
    for task_id, update in counted.items():
        is_due = books.published_at.get(update.round_id, books.cursor + 1) <= books.cursor
        if is_due and (task_id, "base") not in paid:
            yield f"update {update.update_id} of {update.client_id} is counted and was not paid"
