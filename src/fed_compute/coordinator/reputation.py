"""Reads the journal and keeps what each client's past says about it."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from fed_compute.clock import Clock
from fed_compute.coordinator.contribution_records import contribution_of
from fed_compute.coordinator.journal_reader import Payload, State, catch_up
from fed_compute.coordinator.standings import standing_of, standings_of
from fed_compute.errors import ClientNotFound
from fed_compute.ids import ClientId, RoundId
from fed_compute.rounds.audits import Verdict, audit_probability
from fed_compute.rounds.beliefs import Belief
from fed_compute.rounds.quota import QuotaRules
from fed_compute.rounds.records import Entry, TaskKind
from fed_compute.rounds.scoring import Measures, Moment, Part, Reason, Standing, may_audit, measure
from fed_compute.storage.sql.store import Records, Store

READER = "reputation"


@dataclasses.dataclass(frozen=True, slots=True)
class PartView:
    """One part of a reputation as it stands now, and the events that moved it last, oldest first."""

    score: float
    lower_bound: float
    good: float
    bad: float
    reasons: list[Reason]


@dataclasses.dataclass(frozen=True, slots=True)
class Reputation:
    """A client's counts and what is drawn from them at one moment. `parts` are by name."""

    client_id: ClientId
    standing: Standing
    measures: Measures
    parts: dict[str, PartView]
    used_today: int
    audit_probability: float
    may_audit: bool


class ReputationManager:
    """Folds the journal through `rounds.scoring`. Nobody on an update's way calls it."""

    def __init__(self, store: Store, clock: Clock, rules: QuotaRules) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules

    def catch_up(self) -> bool:
        """Take in what the journal has that was not seen yet."""
        return catch_up(self._store, READER, self._fold)

    def all(self) -> list[Reputation]:
        """Return every registered client's reputation, by client id."""
        self.catch_up()
        with self._store.snapshot() as records:
            return list(self._reputations(records, [client.client_id for client in records.clients.all()]))

    def of_some(self, clients: Sequence[ClientId]) -> list[Reputation]:
        """Return the reputation of some registered clients, in their order."""
        self.catch_up()
        with self._store.snapshot() as records:
            return list(self._reputations(records, clients))

    def of(self, client_id: str) -> Reputation:
        """Return one client's reputation.

        Raises:
            ClientNotFound: if no such client is registered.
        """
        self.catch_up()
        with self._store.snapshot() as records:
            client = records.clients.find(ClientId(client_id))
            if client is None:
                raise ClientNotFound(client_id)
            return next(self._reputations(records, [client.client_id]))

    def _reputations(self, records: Records, clients: Iterable[ClientId]) -> Iterator[Reputation]:
        now, (_, state) = self._clock.now(), records.journal.cursor(READER)
        for client_id, kept in standings_of(records, clients).items():
            standing = kept or Standing.newcomer(self._rules)
            yield Reputation(
                client_id=client_id,
                standing=standing,
                measures=measure(standing, rounds_closed=state.get("rounds_closed", 0), now=now),
                parts={part.value: _part(standing, part, now=now) for part in Part},
                used_today=standing.quota.used_today(now=now),
                audit_probability=audit_probability(standing.audits_passed_in_a_row, suspicious=standing.is_suspicious),
                may_audit=may_audit(standing, now=now),
            )

    def _fold(self, records: Records, entry: Entry, payload: Payload, state: State) -> None:
        closed = state.setdefault("rounds_closed", 0)
        moment = Moment(entry.at, entry.round_id)
        if entry.kind == "round_closed":
            state["rounds_closed"] = closed + 1
        elif entry.kind == "contribution_measured" and entry.round_id is not None:
            self._take_in_contributions(records, moment, entry.round_id)
        elif entry.client_id is not None and payload.get("task", TaskKind.TRAIN) == TaskKind.TRAIN:
            before = standing_of(records, entry.client_id) or Standing.newcomer(self._rules)
            after = self._after(before, entry.kind, payload, moment, rounds_closed=closed)
            if after is not before:
                records.standings.put(entry.client_id, after.to_json())

    def _after(self, before: Standing, kind: str, payload: Payload, moment: Moment, *, rounds_closed: int) -> Standing:
        match kind:
            case "task_assigned":
                return before.assigned(moment, rounds_closed=rounds_closed)
            case "update_accepted":
                return before.accepted(moment, latency_seconds=payload["latency_seconds"], rules=self._rules)
            case "update_refused":
                return before.refused(moment)
            case "update_late":
                return before.late()
            case "task_expired":
                return before.dropped(moment)
            case "audit_closed":
                helped = payload["score"] is not None and payload["score"] > 0.0
                return before.audited(moment, verdict=Verdict(payload["verdict"]), helped=helped)
        return before

    def _take_in_contributions(self, records: Records, moment: Moment, round_id: RoundId) -> None:
        measured = contribution_of(records, round_id)
        for part in measured.parts if measured is not None else ():
            if part.to_others is not None:
                before = standing_of(records, part.client_id) or Standing.newcomer(self._rules)
                after = before.contributed(moment, cosine=part.to_others)
                records.standings.put(part.client_id, after.to_json())


def _part(standing: Standing, part: Part, *, now: float) -> PartView:
    belief: Belief = getattr(standing, part)
    belief = belief.faded(now=now)
    reasons = [reason for reason in standing.reasons if reason.part == part]
    return PartView(belief.expected, belief.lower_bound, belief.good, belief.bad, reasons)
