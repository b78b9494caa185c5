"""What the ledger promises, on every database: each key once, books that balance, nothing ever changed."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from fed_compute.errors import InvariantBroken, LedgerOverdrawn, NotNow, RecordConflict
from fed_compute.ids import ClientId, RoundId, TaskId, TeamId
from fed_compute.rounds.bookkeeping import (
    MINT,
    GroupKind,
    PaidWork,
    Posting,
    account_of,
    escrow_of,
    grant,
    release,
    reversals,
)
from fed_compute.rounds.records import Team
from fed_compute.rounds.rewards import Reward
from fed_compute.storage.sql.store import Records, Store
from tests.contract.conftest import Place
from tests.contract.crowd import at_once
from tests.contract.samples import DIGEST, NOW, client

ANNA, BOB = ClientId("anna"), ClientId("bob")
TRIES, THREADS, AT_ONCE = 10_000, 10, 50
DAY = 86_400.0


def paid(
    number: int, amount: int = 5, *, who: ClientId = ANNA, in_escrow: bool = False, at: float = NOW,
    reason: str = "base", team_id: int | None = None,
) -> Posting:  # fmt: skip
    """Return the posting that pays one task."""
    work = PaidWork(who, RoundId(1), TaskId(f"t_{number}"), team_id)
    return grant(Reward(reason, amount, {"base_tokens": 1.0}), work, in_escrow=in_escrow, at=at)


def post(store: Store, *postings: Posting) -> list[bool]:
    """Write postings in one transaction; say which were new."""
    with store.transaction() as records:
        return [records.ledger.post(posting) for posting in postings]


def breaches(records: Records) -> list[str]:
    """Return what is wrong with the books, from their rows alone."""
    rows = records.ledger.rows_after(0, limit=10**6)
    groups: Counter[int] = Counter()
    balances: Counter[str] = Counter()
    for row in rows:
        if row.account is not None and row.micro_tokens is not None:
            groups[row.group_id] += row.micro_tokens
            balances[row.account] += row.micro_tokens
    wrong = [f"group {group} sums to {total}" for group, total in groups.items() if total]
    wrong += [f"{name} is at {n}" for name, n in balances.items() if n < 0 and name != MINT]
    kept = records.ledger.balances()
    wrong += [f"{name}: {kept.get(name, 0)}, not {balances[name]}" for name in {*balances, *kept}
              if kept.get(name, 0) != balances[name]]  # fmt: skip
    keys = {row.group_id: row.key for row in rows}
    wrong += [f"{key} came {count} times" for key, count in Counter(keys.values()).items() if count > 1]
    return wrong + ([f"all together hold {sum(kept.values())}"] if sum(kept.values()) else [])


def test_a_grant_happens_once_for_a_key_and_the_books_balance(store: Store) -> None:
    big = 10**13
    assert post(store, paid(1, big), paid(2, big), paid(1, big)) == [True, True, False]
    with store.snapshot() as records:
        assert records.ledger.balances() == {MINT: -2 * big, account_of(ANNA): 2 * big}
        assert [line.settled for line in records.ledger.lines_of(ANNA)] == [big, big]
        assert breaches(records) == []


def test_what_was_posted_first_for_a_key_stands(store: Store) -> None:
    assert post(store, paid(1, 5)) == [True]
    assert post(store, paid(1, 500)) == [False]
    with store.snapshot() as records:
        assert records.ledger.balance(account_of(ANNA)) == 5


def test_entries_that_do_not_sum_to_zero_are_not_written(store: Store) -> None:
    crooked = replace(paid(1), entries=((MINT, -4), (account_of(ANNA), 5)))
    with pytest.raises(InvariantBroken):
        post(store, paid(2), crooked)
    with store.snapshot() as records:
        assert records.ledger.rows_after(0, limit=10) == []


def test_nobody_can_owe(store: Store) -> None:
    post(store, paid(1, 5))
    too_much = replace(paid(2), entries=((MINT, 6), (account_of(ANNA), -6)))
    with pytest.raises(LedgerOverdrawn, match="-1"):
        post(store, paid(3, 1, who=BOB), too_much)
    with store.snapshot() as records:
        assert records.ledger.balances() == {MINT: -5, account_of(ANNA): 5}


def test_the_database_itself_lets_nobody_owe(place: Place) -> None:
    store = Store(place.database())
    post(store, paid(1, 5))
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.ledger._connection.exec_driver_sql(
            "UPDATE ledger_accounts SET micro_tokens = -1 WHERE account <> 'mint'"
        )


@pytest.mark.parametrize("table", ["ledger_groups", "ledger_entries"])
@pytest.mark.parametrize("act", ["UPDATE {} SET group_id = group_id", "DELETE FROM {}"])
def test_the_database_itself_changes_and_deletes_nothing_of_the_ledger(place: Place, table: str, act: str) -> None:
    store = Store(place.database())
    post(store, paid(1))
    with pytest.raises(RecordConflict), store.transaction() as records:
        records.ledger._connection.exec_driver_sql(act.format(table))
    with store.snapshot() as records:
        assert len(records.ledger.rows_after(0, limit=10)) == 2


def test_a_line_tells_what_a_client_got_when_for_what_and_by_which_numbers(store: Store) -> None:
    post(store, paid(1, 5, in_escrow=True), paid(2, 7), release(ANNA, 5, task_id=TaskId("t_9"), at=NOW + 1))
    with store.snapshot() as records:
        held, own, freed = records.ledger.lines_of(ANNA)
        assert records.ledger.lines_of(ANNA, after=held.group_id, limit=1) == [own]
        assert records.ledger.lines_of(BOB) == []
    assert [(line.settled, line.pending) for line in (held, own, freed)] == [(0, 5), (7, 0), (5, -5)]
    assert (held.kind, held.reason, held.round_id, held.task_id, held.at) == (GroupKind.GRANT, "base", 1, "t_1", NOW)
    assert held.terms == '{"base_tokens":1.0}'
    assert freed.kind is GroupKind.RELEASE


def test_a_grant_of_nothing_is_on_record_and_no_line(store: Store) -> None:
    assert post(store, paid(1, 0)) == [True]
    assert post(store, paid(1, 0)) == [False]
    with store.snapshot() as records:
        assert records.ledger.lines_of(ANNA) == []
        (row,) = records.ledger.rows_after(0, limit=10)
    assert (row.task_id, row.account, row.micro_tokens) == ("t_1", None, None)


def test_taking_back_pending_credit_and_settled_credit(store: Store) -> None:
    post(store, paid(1, 8, in_escrow=True), paid(1, -3, in_escrow=True, reason="dropout_penalty"))
    with store.snapshot() as records:
        assert [released for _, released in records.ledger.grants_of(TaskId("t_1"))] == [False, False]
    post(store, release(ANNA, 5, task_id=TaskId("t_9"), at=NOW), paid(2, 4, in_escrow=True))
    with store.transaction() as records:
        grants = records.ledger.grants_of(TaskId("t_1"))
        assert [released for _, released in grants] == [True, True]
        back = reversals(grants, reason="operator", note="", at=NOW)
        assert [records.ledger.post(one) for one in back + back] == [True, True, False, False]
    with store.snapshot() as records:
        assert records.ledger.balances() == {MINT: -4, account_of(ANNA): 0, escrow_of(ANNA): 4}
        assert breaches(records) == []


def test_the_whole_ledger_is_read_page_by_page(store: Store) -> None:
    post(store, *(paid(number, number % 3) for number in range(10)))
    with store.snapshot() as records:
        whole, pages, last = records.ledger.rows_after(0, limit=100), [], 0
        while page := records.ledger.rows_after(last, limit=3):
            pages += page
            last = page[-1].group_id
    assert pages == whole
    assert len({row.group_id for row in whole}) == 10


def test_whoever_earned_most_is_first_and_equals_share_a_rank(store: Store) -> None:
    amounts = {"anna": 5, "bob": 9, "carl": 5, "dora": 1}
    post(store, *(paid(n, amount, who=ClientId(who)) for n, (who, amount) in enumerate(amounts.items())))
    with store.snapshot() as records:
        places = records.rankings.clients(since=None, limit=10, offset=0)
        page = records.rankings.clients(since=None, limit=2, offset=1)
        assert records.rankings.count_clients(since=None) == 4
    assert [(p.rank, p.who, p.micro_tokens) for p in places] == [
        (1, "bob", 9), (2, "anna", 5), (2, "carl", 5), (4, "dora", 1),
    ]  # fmt: skip
    assert page == places[1:3]


def test_a_window_counts_what_was_earned_in_it_and_a_release_earns_nothing(store: Store) -> None:
    post(store, paid(1, 50, in_escrow=True), paid(2, 7, who=BOB, at=NOW + DAY))
    post(store, release(ANNA, 50, task_id=TaskId("t_9"), at=NOW + DAY))
    with store.snapshot() as records:
        since = records.rankings.clients(since=NOW + 1, limit=10, offset=0)
        ever = records.rankings.clients(since=None, limit=10, offset=0)
    assert [(p.who, p.micro_tokens) for p in since if p.micro_tokens] == [("bob", 7)]
    assert [(p.who, p.micro_tokens) for p in ever] == [("anna", 50), ("bob", 7)]


def test_a_teams_total_is_what_was_earned_for_it(store: Store) -> None:
    with store.transaction() as records:
        records.clients.add(client("anna"))
        team = Team(TeamId(0), "foxes", DIGEST, founder=ANNA, created_at=NOW)
        team = replace(team, team_id=records.teams.add(team))
    post(store, paid(1, 5, team_id=team.team_id), paid(2, 3), paid(3, 4, who=BOB, team_id=team.team_id, at=NOW + DAY))
    with store.snapshot() as records:
        assert records.rankings.team_total(team.team_id) == 9
        assert [(p.who, p.micro_tokens) for p in records.rankings.teams(since=None, limit=9, offset=0)] == [
            ("foxes", 9)
        ]
        assert [p.micro_tokens for p in records.rankings.teams(since=NOW + 1, limit=9, offset=0)] == [4]
        assert records.rankings.count_teams(since=None) == 1


class Failing(Exception):
    """A process that dies between posting and commit."""


def post_in_turn(
    store: Store, postings: Sequence[Posting], *, seed: int, together: threading.Barrier, posted: list[str]
) -> None:
    """Write postings in small transactions, some of which die before they are committed and are tried again.

    Before each one all threads wait for each other, so that none can be done before the others begin.
    """
    chance = random.Random(seed)
    for start in range(0, len(postings), AT_ONCE):
        piece = postings[start : start + AT_ONCE]
        together.wait()
        while True:
            try:
                with store.transaction() as records:
                    new = [posting.key for posting in piece if records.ledger.post(posting)]
                    if chance.random() < 0.1:
                        raise Failing
            except (Failing, NotNow):
                continue
            break
        posted += new


@pytest.mark.timeout(240)
@pytest.mark.parametrize("place", ["sqlite file", "postgresql"], indirect=True)
def test_ten_thousand_grants_at_once_retried_and_in_any_order_make_each_payment_once(place: Place) -> None:
    """Ten threads on two replicas post the same thousand payments, each in an order of its own."""
    stores = [Store(place.database()), Store(place.database())]
    distinct = [
        paid(number, 1 + number % 7, who=ClientId(f"c{number % 11}"), in_escrow=number % 3 == 0)
        for number in range(TRIES // THREADS)
    ]
    posted: list[list[str]] = [[] for _ in range(THREADS)]
    acts: list[Callable[[], object]] = []
    together = threading.Barrier(THREADS, timeout=120)
    for thread in range(THREADS):
        shuffled = random.Random(thread).sample(distinct, len(distinct))
        act = partial(post_in_turn, stores[thread % 2], shuffled, seed=thread, together=together)
        acts.append(partial(act, posted=posted[thread]))
    assert at_once(acts) == [None] * THREADS
    assert min(len(mine) for mine in posted) > 0, "they raced, and each was first with some"
    told = Counter(key for mine in posted for key in mine)
    assert told == Counter(posting.key for posting in distinct)  # exactly one of those who tried was told so
    with stores[0].snapshot() as records:
        assert breaches(records) == []
        balances = records.ledger.balances()
        keys = {row.key for row in records.ledger.rows_after(0, limit=TRIES)}
    assert keys == {posting.key for posting in distinct}
    wanted: Counter[str] = Counter()
    for posting in distinct:
        wanted.update(dict(posting.entries))
    assert balances == dict(wanted)
