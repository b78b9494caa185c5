"""Registering clients by the thousand."""

from collections import Counter
from collections.abc import Sequence

from fed_compute.clock import Clock
from fed_compute.errors import ClientNameInvalid, ClientNameTaken
from fed_compute.ids import CLIENT_NAME_RULE, ClientId, is_client_name
from fed_compute.protocol.redaction import redact
from fed_compute.rounds.records import Client
from fed_compute.storage.sql.journal import line
from fed_compute.storage.sql.store import Store

AT_ONCE = 20_000
"""Clients in one transaction."""


class Enrolment:
    """Registers clients whom the caller knows. They get no key: an operator can make one for each later.

    Whoever has no key cannot call from outside, so nothing is opened by it.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def enrol(self, names: Sequence[str], *, capabilities: str = "{}") -> list[ClientId]:
        """Register clients under these names. Cost: some 15 µs each; 20 000 are one transaction.

        Raises:
            ClientNameInvalid: if a name has a form that cannot be used. Nobody is registered then.
            ClientNameTaken: if a client has one of them, or it comes twice. Those of whole transactions before stay.
        """
        for name in names:
            if not is_client_name(name) or redact(name) != name:
                raise ClientNameInvalid(redact(name), rule=CLIENT_NAME_RULE)
        for start in range(0, len(names), AT_ONCE):
            self._enrol([ClientId(name) for name in names[start : start + AT_ONCE]], capabilities)
        return [ClientId(name) for name in names]

    def _enrol(self, client_ids: list[ClientId], capabilities: str) -> None:
        now = self._clock.now()
        clients = [Client(one, capabilities, registered_at=now, last_seen_at=now) for one in client_ids]
        with self._store.transaction() as records:
            if taken := next(iter(records.bulk.states(client_ids)), _first_twice(client_ids)):
                raise ClientNameTaken(taken)
            records.bulk.add_clients(clients)
            records.journal.append_all(
                [line("client_registered", at=now, client_id=one.client_id, state=one.state) for one in clients]
            )


def _first_twice(client_ids: list[ClientId]) -> ClientId | None:
    twice = [one for one, count in Counter(client_ids).items() if count > 1]
    return twice[0] if twice else None
