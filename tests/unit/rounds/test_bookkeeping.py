"""What is posted when work is paid, released, and taken back."""

import itertools
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.bookkeeping import (
    MINT,
    Granted,
    GroupKind,
    PaidWork,
    Posting,
    account_of,
    escrow_of,
    grant,
    release,
    reversals,
)
from fed_compute.rounds.rewards import Reward, RewardRules, Work, rewards_for

ANNA = ClientId("anna")
OWN, ESCROW = account_of(ANNA), escrow_of(ANNA)
WORK = PaidWork(ANNA, RoundId(7), TaskId("t_1"), team_id=3)
amounts = st.integers(0, 10**15)


def posted(*postings: Posting) -> Counter[str]:
    """Return the balances after postings."""
    balances: Counter[str] = Counter()
    for posting in postings:
        for account, amount in posting.entries:
            balances[account] += amount
    return balances


def granted(number: int, posting: Posting) -> Granted:
    """Return a posting as it is read back."""
    entries = dict(posting.entries)
    return Granted(number, ANNA, posting.round_id, posting.task_id, posting.team_id, posting.reason,
                   settled=entries.get(OWN, 0), pending=entries.get(ESCROW, 0))  # fmt: skip


@given(amounts, st.booleans())
def test_every_group_sums_to_zero(amount: int, in_escrow: bool) -> None:
    paid = grant(Reward("base", amount), WORK, in_escrow=in_escrow, at=1.0)
    freed = release(ANNA, amount, task_id=TaskId("t_9"), at=2.0)
    back = reversals([(granted(1, paid), False)], reason="operator", note="", at=3.0)
    for posting in (paid, freed, *back):
        assert sum(amount for _, amount in posting.entries) == 0
        assert all(amount for _, amount in posting.entries)


def test_a_newcomers_credit_goes_to_escrow_and_everybody_elses_to_the_own_account() -> None:
    pending, settled = (grant(Reward("base", 5), WORK, in_escrow=held, at=1.0) for held in (True, False))
    assert dict(pending.entries) == {MINT: -5, ESCROW: 5}
    assert dict(settled.entries) == {MINT: -5, OWN: 5}


def test_a_grant_tells_what_it_is_for_and_by_which_numbers() -> None:
    posting = grant(Reward("base", 5, {"base_tokens": 0.000005}), WORK, in_escrow=False, at=1.5)
    assert (posting.kind, posting.reason, posting.at) == (GroupKind.GRANT, "base", 1.5)
    assert (posting.client_id, posting.round_id, posting.task_id, posting.team_id) == ("anna", 7, "t_1", 3)
    assert json.loads(posting.terms) == {"base_tokens": 0.000005}


def test_each_reason_of_each_work_has_a_key_of_its_own() -> None:
    works = [WORK, PaidWork(ANNA, RoundId(7), TaskId("t_2"), None)]
    rewards = [Reward("base", 1), Reward("speed_bonus", 1)]
    keys = [grant(reward, work, in_escrow=False, at=1.0).key for work in works for reward in rewards]
    keys += [grant(reward, WORK, in_escrow=True, at=9.0).key for reward in rewards]
    assert len(set(keys)) == 4


@given(st.floats(0, 1e6), st.floats(0, 1e3), st.integers(0, 9), st.booleans(), st.booleans(), st.booleans())
def test_taking_back_all_that_one_work_earned_leaves_nothing_and_never_overdraws(
    base: float, latency: float, streak: int, dropped: bool, in_escrow: bool, released: bool
) -> None:
    """Whatever became of the escrow meanwhile, and in whatever order the grants were made."""
    rewards = rewards_for(RewardRules(base_tokens=base), Work(latency, 100.0, streak, dropped))
    paid = [grant(reward, WORK, in_escrow=in_escrow, at=1.0) for reward in rewards]
    history = list(paid)
    if released := released and in_escrow:
        history.append(release(ANNA, posted(*paid)[ESCROW], task_id=TaskId("t_9"), at=2.0))
    back = reversals(
        [(granted(number, posting), released) for number, posting in enumerate(paid, start=1)],
        reason="operator", note="why", at=3.0,
    )  # fmt: skip
    for length in range(len(back) + 1):
        so_far = posted(*history, *itertools.islice(back, length))
        assert all(amount >= 0 for account, amount in so_far.items() if account != MINT)
    assert not any(posted(*history, *back).values())


def test_a_reversal_names_the_group_that_it_takes_back_and_why() -> None:
    paid = grant(Reward("base", 5), WORK, in_escrow=False, at=1.0)
    (back,) = reversals([(granted(41, paid), False)], reason="audit_failed", note="harm", at=2.0)
    assert (back.kind, back.reason, back.refers_to, back.key) == (GroupKind.REVERSAL, "audit_failed", 41, "reverse:41")
    assert (back.task_id, back.team_id, json.loads(back.terms)) == ("t_1", 3, {"note": "harm", "reversed": "base"})


@pytest.mark.parametrize("act", ["grant", "release"])
def test_an_amount_of_nothing_is_noted_without_entries(act: str) -> None:
    nothing = {
        "grant": grant(Reward("base", 0), WORK, in_escrow=True, at=1.0),
        "release": release(ANNA, 0, task_id=TaskId("t_1"), at=1.0),
    }
    assert nothing[act].entries == ()
