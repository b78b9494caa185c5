"""The ledger's rules: what is posted when work is paid, when credit is released, and when it is taken back.

Double entry: every group of entries sums to zero. Credit comes from the mint. A newcomer's stays in escrow
until enough of its results in a row were valid. Nothing that was posted is ever changed: what was wrong is
taken back by a new group that names the old one.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from fed_compute.ids import ClientId, RoundId, TaskId
from fed_compute.rounds.rewards import Reward

MINT = "mint"
"""The account that every grant comes from; its balance is minus what was granted and not taken back."""


class GroupKind(StrEnum):
    """What a group of entries does."""

    GRANT = "grant"
    RELEASE = "release"
    REVERSAL = "reversal"


@dataclass(frozen=True, slots=True)
class Posting:
    """A group of entries to be written, once for each `key`. `entries` are (account, micro-tokens), none of them 0.

    `terms` is a JSON text: the numbers by which the amount was found. `refers_to` is the group that this
    one takes back.
    """

    key: str
    kind: GroupKind
    client_id: ClientId
    reason: str
    at: float
    entries: tuple[tuple[str, int], ...]
    round_id: RoundId | None = None
    task_id: TaskId | None = None
    team_id: int | None = None
    refers_to: int | None = None
    terms: str = "{}"


@dataclass(frozen=True, slots=True)
class PaidWork:
    """A piece of work that is paid: whose, in which round, under which task, for which team."""

    client_id: ClientId
    round_id: RoundId
    task_id: TaskId
    team_id: int | None


@dataclass(frozen=True, slots=True)
class Granted:
    """A grant as it was posted: the amounts that it moved into the client's account and into its escrow."""

    group_id: int
    client_id: ClientId
    round_id: RoundId | None
    task_id: TaskId | None
    team_id: int | None
    reason: str
    settled: int
    pending: int


def account_of(client_id: ClientId) -> str:
    """Return the account of a client's own credit."""
    return f"client:{client_id}"


def escrow_of(client_id: ClientId) -> str:
    """Return the account of a client's credit that is still pending."""
    return f"escrow:{client_id}"


def grant(reward: Reward, work: PaidWork, *, in_escrow: bool, at: float) -> Posting:
    """Return the posting that pays one reason of one piece of work. An amount of 0 is noted without entries."""
    account = escrow_of(work.client_id) if in_escrow else account_of(work.client_id)
    return Posting(
        key=f"grant:{work.task_id}:{reward.reason}",
        kind=GroupKind.GRANT,
        client_id=work.client_id,
        reason=reward.reason,
        at=at,
        entries=_entries({MINT: -reward.micro_tokens, account: reward.micro_tokens}),
        round_id=work.round_id,
        task_id=work.task_id,
        team_id=work.team_id,
        terms=write_terms(reward.terms),
    )


def release(client_id: ClientId, micro_tokens: int, *, task_id: TaskId, at: float) -> Posting:
    """Return the posting that moves all that a client has in escrow into its account, for the result of `task_id`."""
    return Posting(
        key=f"release:{task_id}",
        kind=GroupKind.RELEASE,
        client_id=client_id,
        reason="released",
        at=at,
        entries=_entries({escrow_of(client_id): -micro_tokens, account_of(client_id): micro_tokens}),
        task_id=task_id,
    )


def reversals(grants: Iterable[tuple[Granted, bool]], *, reason: str, note: str, at: float) -> list[Posting]:
    """Return the postings that take grants back, in an order in which no account falls below zero.

    Args:
        grants: each grant of one piece of work, and whether its escrow was released since.
        reason: who takes it back: `audit_failed` or `operator`.
        note: why, in words.
        at: Unix seconds.
    """
    ordered = sorted(grants, key=lambda pair: (pair[0].settled + pair[0].pending, pair[0].group_id))
    return [_reversal(granted, released, reason, note, at) for granted, released in ordered]


def write_terms(terms: Mapping[str, float | str]) -> str:
    """Write the numbers behind an amount as they are kept."""
    return json.dumps(terms, separators=(",", ":"), sort_keys=True, allow_nan=False)


def _reversal(granted: Granted, released: bool, reason: str, note: str, at: float) -> Posting:
    settled = granted.settled + (granted.pending if released else 0)
    pending = 0 if released else granted.pending
    amounts = {
        MINT: settled + pending,
        account_of(granted.client_id): -settled,
        escrow_of(granted.client_id): -pending,
    }
    return Posting(
        key=f"reverse:{granted.group_id}",
        kind=GroupKind.REVERSAL,
        client_id=granted.client_id,
        reason=reason,
        at=at,
        entries=_entries(amounts),
        round_id=granted.round_id,
        task_id=granted.task_id,
        team_id=granted.team_id,
        refers_to=granted.group_id,
        terms=write_terms({"note": note, "reversed": granted.reason}),
    )


def _entries(amounts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple((account, amount) for account, amount in amounts.items() if amount)
