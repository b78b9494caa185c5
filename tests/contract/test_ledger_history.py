"""Whatever is paid, released, taken back, repeated or undone half way: the books balance and nobody owes."""

from collections import Counter
from contextlib import suppress
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.bookkeeping import MINT, PaidWork, Posting, account_of, escrow_of, grant, release, reversals
from fed_compute.rounds.rewards import RewardRules, Work, late_reward, rewards_for
from fed_compute.storage.sql.store import Store
from tests.contract.test_ledger import breaches
from tests.unit.coordinator.databases import IN_MEMORY, Databases

CLIENTS = [ClientId(name) for name in ("anna", "bob", "carl")]
DATABASES = Databases()
tasks = st.integers(0, 11)


class Undone(Exception):
    """A transaction that fails after it has posted."""


class LedgerHistory(RuleBasedStateMachine):
    """A ledger beside plain numbers that say what it must hold. Task n is work of client n modulo 3."""

    def __init__(self) -> None:
        super().__init__()
        self.database = DATABASES.open(IN_MEMORY)
        self.store = Store(self.database)
        self.at = 0.0
        self.paid: dict[int, int] = {}
        self.taken_back: set[int] = set()
        self.history: list[Posting] = []

    def teardown(self) -> None:
        self.database.close()

    def post_all(self, *postings: Posting) -> list[bool]:
        """Post in one transaction, and remember what was posted."""
        with self.store.transaction() as records:
            new = [records.ledger.post(posting) for posting in postings]
        self.history += postings
        return new

    @rule(number=tasks, held=st.booleans(), base=st.integers(0, 20), fast=st.booleans(), streak=st.integers(0, 9),
          dropped=st.booleans())  # fmt: skip
    def pay(self, number: int, held: bool, base: int, fast: bool, streak: int, dropped: bool) -> None:
        """Pay a piece of work, all its reasons at once."""
        if number in self.paid:
            return
        self.at += 1.0
        rules, who = RewardRules(base_tokens=base), CLIENTS[number % 3]
        rewards = rewards_for(rules, Work(0.0 if fast else 99.0, 60.0, streak, dropped))
        rewards = [late_reward(rules)] if number % 5 == 0 else rewards
        work = PaidWork(who, RoundId(1), TaskId(f"t_{number}"), None)
        assert all(self.post_all(*(grant(reward, work, in_escrow=held, at=self.at) for reward in rewards)))
        self.paid[number] = sum(reward.micro_tokens for reward in rewards)

    @rule(number=tasks)
    def free(self, number: int) -> None:
        """Release all that a client has in escrow."""
        self.at += 1.0
        who = CLIENTS[number % 3]
        with self.store.snapshot() as records:
            held = records.ledger.balance(escrow_of(who))
        self.post_all(release(who, held, task_id=TaskId(f"t_{number}.{self.at}"), at=self.at))

    @rule(number=tasks)
    def take_back(self, number: int) -> None:
        """Take back all that a task earned; a second time changes nothing."""
        self.at += 1.0
        with self.store.snapshot() as records:
            grants = records.ledger.grants_of(TaskId(f"t_{number}"))
        new = self.post_all(*reversals(grants, reason="operator", note="", at=self.at))
        assert new == [number not in self.taken_back] * len(grants)
        assert bool(grants) == (number in self.paid)
        self.taken_back |= {number} if grants else set()

    @rule(place=st.integers(0, 10**6), amount=st.integers(1, 10**6))
    def repeat(self, place: int, amount: int) -> None:
        """Post something once more that was posted before, and under its key another amount."""
        if self.history:
            again = self.history[place % len(self.history)]
            other = replace(again, entries=((MINT, -amount), (account_of(again.client_id), amount)))
            assert self.post_all(again, other) == [False, False]

    @rule(who=st.sampled_from(CLIENTS), amount=st.integers(1, 10**9))
    def die_half_way(self, who: ClientId, amount: int) -> None:
        """Post, and fail before the commit: nothing of it may stay."""
        lost = replace(grant_of(who, amount), key=f"lost:{self.at}")
        with suppress(Undone), self.store.transaction() as records:
            assert records.ledger.post(lost)
            raise Undone

    @invariant()
    def the_books_balance(self) -> None:
        with self.store.snapshot() as records:
            assert breaches(records) == []

    @invariant()
    def everybody_has_what_was_granted_and_not_taken_back(self) -> None:
        wanted: Counter[ClientId] = Counter({who: 0 for who in CLIENTS})
        for number, amount in self.paid.items():
            wanted[CLIENTS[number % 3]] += 0 if number in self.taken_back else amount
        with self.store.snapshot() as records:
            balance = records.ledger.balance
            assert {who: balance(account_of(who)) + balance(escrow_of(who)) for who in CLIENTS} == wanted
            assert balance(MINT) == -sum(wanted.values())


def grant_of(who: ClientId, amount: int) -> Posting:
    """Return a posting to a client's own account."""
    reward = late_reward(RewardRules(base_tokens=2 * amount / 10**6))
    return grant(reward, PaidWork(who, RoundId(1), TaskId("t_lost"), None), in_escrow=False, at=0.0)


LedgerHistory.TestCase.settings = settings(max_examples=settings.default.max_examples // 3, stateful_step_count=30)
TestLedgerHistory = LedgerHistory.TestCase
