"""Clients in an operator's hands: list, approve, shut out, let in again."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fed_compute.clock import Clock
from fed_compute.coordinator.key_desk import KeyView, view_key
from fed_compute.coordinator.task_assigner import TaskAssigner
from fed_compute.errors import ClientNotFound, ClientStateConflict
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Client, ClientState, Invite, Task
from fed_compute.storage.sql.store import Records, Store


@dataclass(frozen=True, slots=True)
class ClientView:
    """A client with its keys, the invitation it came with, its live lease, and whom it has invited."""

    client: Client
    keys: Sequence[KeyView]
    invite: Invite | None
    lease: Task | None
    invited: Sequence[ClientId]


class ClientDesk:
    """Decides who takes part. Every act is a line of the journal, with the key that did it (`by`).

    A change holds from the client's next request on, at every replica.
    """

    def __init__(self, store: Store, tasks: TaskAssigner, clock: Clock) -> None:
        self._store = store
        self._tasks = tasks
        self._clock = clock

    def page(
        self,
        *,
        limit: int,
        after: ClientId | None = None,
        state: Literal["active", "pending", "banned"] | None = None,
        invite_id: str | None = None,
        inviter: ClientId | None = None,
    ) -> list[Client]:
        """Return clients by id, those after the client `after`, of one state, invitation or inviter."""
        wanted = None if state is None else ClientState(state)
        with self._store.snapshot() as records:
            return records.clients.page(limit=limit, after=after, state=wanted, invite_id=invite_id, inviter=inviter)

    def view(self, client_id: ClientId) -> ClientView:
        """Return one client with everything about it.

        Raises:
            ClientNotFound: if there is no such client.
        """
        with self._store.snapshot() as records:
            client = _get(records, client_id)
            return ClientView(
                client=client,
                keys=[view_key(key, now=self._clock.now()) for key in records.keys.of_client(client_id)],
                invite=None if client.invite_id is None else records.invites.find(client.invite_id),
                lease=records.tasks.live_of(client_id),
                invited=[invited.client_id for invited in records.clients.invited_by([client_id])],
            )

    def approve(self, client_id: ClientId, *, by: str) -> Client:
        """Let a pending client take part. Doing it twice changes nothing.

        Raises:
            ClientNotFound: if there is no such client.
            ClientStateConflict: if it was shut out.
        """
        with self._store.transaction() as records:
            client = _get(records, client_id)
            if client.state is ClientState.BANNED:
                raise ClientStateConflict(client_id, state=client.state, want=ClientState.PENDING)
            return self._move(records, client, ClientState.ACTIVE, "client_approved", by=by)

    def ban(self, client_id: ClientId, *, reason: str | None, with_invited: bool, by: str) -> list[Client]:
        """Shut a client out and take its lease back, and return who is shut out now.

        With `with_invited`, so are all who came with its invitations, and with theirs. Its open
        invitations open nothing while it is shut out. Doing it twice changes nothing.

        Raises:
            ClientNotFound: if there is no such client.
        """
        with self._store.transaction() as records:
            found = [_get(records, client_id)]
            if with_invited:
                found += _invited(records, client_id)
            return [self._ban(records, client, reason=reason, by=by) for client in found]

    def unban(self, client_id: ClientId, *, by: str) -> Client:
        """Let a client that was shut out take part again, without those it has invited. Twice changes nothing.

        Raises:
            ClientNotFound: if there is no such client.
            ClientStateConflict: if it still waits for approval.
        """
        with self._store.transaction() as records:
            client = _get(records, client_id)
            if client.state is ClientState.PENDING:
                raise ClientStateConflict(client_id, state=client.state, want=ClientState.BANNED)
            return self._move(records, client, ClientState.ACTIVE, "client_unbanned", by=by)

    def _ban(self, records: Records, client: Client, *, reason: str | None, by: str) -> Client:
        banned = self._move(records, client, ClientState.BANNED, "client_banned", by=by, reason=reason)
        self._tasks.cancel_lease(records, client.client_id)
        return banned

    def _move(
        self, records: Records, client: Client, state: ClientState, kind: str, *, by: str, reason: str | None = None
    ) -> Client:
        if client.state is state:
            return client
        client = replace(client, state=state, state_reason=reason)
        records.clients.put(client)
        told: dict[str, Any] = {} if reason is None else {"reason": reason}
        records.journal.append(kind, at=self._clock.now(), client_id=client.client_id, by=by, **told)
        return client


def _get(records: Records, client_id: ClientId) -> Client:
    if (client := records.clients.find(client_id)) is None:
        raise ClientNotFound(client_id)
    return client


def _invited(records: Records, root: ClientId) -> list[Client]:
    """Return everybody below a client in the tree of invitations, nearest first."""
    found: dict[ClientId, Client] = {}
    inviters = [root]
    while inviters:
        new = [client for client in records.clients.invited_by(inviters) if client.client_id not in found]
        found |= {client.client_id: client for client in new}
        inviters = [client.client_id for client in new]
    found.pop(root, None)
    return list(found.values())
