"""Whatever several replicas do to the ledger at the same moment, each thing happens once and the books balance."""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from fed_compute.errors import NotNow
from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.bookkeeping import PaidWork, Posting, account_of, escrow_of, grant, release, reversals
from fed_compute.rounds.rewards import Reward
from fed_compute.storage.sql.store import Records, Store
from tests.contract.conftest import Place
from tests.contract.crowd import at_once
from tests.contract.test_ledger import Failing, breaches

THREADS = 4
Act = Callable[[Records], list[str]]
"""Something done in one transaction. It returns the keys that it was the first to post."""

EXAMPLES = itertools.count()
numbers = st.integers(0, 11)
payments = st.dictionaries(numbers, st.tuples(st.integers(1, 10**9), st.booleans()), max_size=6)


def post(records: Records, postings: Sequence[Posting]) -> list[str]:
    """Post in the present transaction."""
    return [posting.key for posting in postings if records.ledger.post(posting)]


def in_turn(store: Store, acts: Sequence[Act], *, seed: int) -> list[str]:
    """Do everything in an order of one's own; what dies before its commit, or must wait, is tried again."""
    chance, first = random.Random(seed), list[str]()
    for act in chance.sample(acts, len(acts)):
        while True:
            try:
                with store.transaction() as records:
                    new = act(records)
                    if chance.random() < 0.2:
                        raise Failing
            except (Failing, NotNow):
                continue
            break
        first += new
    return first


class LedgerRush(RuleBasedStateMachine):
    """A ledger that several threads work on at once, beside plain numbers that say what it must hold.

    Task n is work of client n modulo 3. Every example has clients of its own, all share one ledger.
    """

    def __init__(self, stores: Sequence[Store]) -> None:
        super().__init__()
        self.stores = stores
        self.example = next(EXAMPLES)
        self.clients = [ClientId(f"{name}-{self.example}") for name in ("anna", "bob", "carl")]
        self.paid: dict[int, int] = {}
        self.taken_back: set[int] = set()
        self.rushes = 0

    @rule(pays=payments, backs=st.sets(numbers), freed=st.sets(st.integers(0, 2)), seed=st.integers(0, 2**32))
    def rush(
        self, pays: Mapping[int, tuple[int, bool]], backs: set[int], freed: set[int], seed: int
    ) -> None:  # fmt: skip
        """Let every thread pay, take back and release the same things, all at once, each in its own order."""
        self.rushes += 1
        backs &= self.paid.keys()
        acts = [*(self.pay(number, *how) for number, how in pays.items()), *map(self.take_back, backs),
                *map(self.free, freed)]  # fmt: skip
        threads = [partial(in_turn, self.stores[t % len(self.stores)], acts, seed=seed + t) for t in range(THREADS)]
        found = at_once(threads)
        assert not [one for one in found if isinstance(one, Exception)]
        first = Counter(key for one in found if not isinstance(one, Exception) for key in one)
        new_pays, new_backs = pays.keys() - self.paid.keys(), backs - self.taken_back
        assert set(first.values()) <= {1}, "of all who tried, one was first"
        assert len(first) == 2 * len(new_pays) + 2 * len(new_backs) + len(freed)
        self.paid |= {number: pays[number][0] - pays[number][0] // 2 for number in new_pays}
        self.taken_back |= new_backs
        self.look()

    def pay(self, number: int, amount: int, held: bool) -> Act:
        """Return the act that pays one task: a base, and a penalty of half of it."""
        work = PaidWork(self.clients[number % 3], RoundId(1), self.task(number), None)
        rewards = [Reward("base", amount), Reward("dropout_penalty", -(amount // 2))]
        return partial(post, postings=[grant(reward, work, in_escrow=held, at=0.0) for reward in rewards])

    def take_back(self, number: int) -> Act:
        """Return the act that takes back what one task earned, out of escrow or not."""

        def act(records: Records) -> list[str]:
            grants = records.ledger.grants_of(self.task(number))
            return post(records, reversals(grants, reason="operator", note="", at=0.0))

        return act

    def free(self, place: int) -> Act:
        """Return the act that releases what a client has in escrow, once in this rush."""
        who, occasion = self.clients[place], TaskId(f"{self.example}.{self.rushes}.{place}")

        def act(records: Records) -> list[str]:
            held = records.ledger.balance(escrow_of(who))
            return post(records, [release(who, held, task_id=occasion, at=0.0)])

        return act

    def task(self, number: int) -> TaskId:
        """Return the name of a task."""
        return TaskId(f"t_{self.example}.{number}")

    def look(self) -> None:
        """Check the whole ledger, and what everybody has."""
        wanted = Counter({who: 0 for who in self.clients})
        for number, amount in self.paid.items():
            wanted[self.clients[number % 3]] += 0 if number in self.taken_back else amount
        with self.stores[0].snapshot() as records:
            assert breaches(records) == []
            balance = records.ledger.balance
            assert {who: balance(account_of(who)) + balance(escrow_of(who)) for who in self.clients} == wanted


@pytest.mark.timeout(240)
@pytest.mark.parametrize("place", ["sqlite file", "postgresql"], indirect=True)
def test_whatever_is_done_to_the_ledger_at_once_happens_once(place: Place) -> None:
    stores = [Store(place.database()), Store(place.bare())]
    few = settings(max_examples=settings.default.max_examples // 6, stateful_step_count=5)
    run_state_machine_as_test(partial(LedgerRush, stores), settings=few)
