"""Rows of invitations, and of challenges that were met once and are good no more."""

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from fed_compute.errors import FedComputeError
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Invite
from fed_compute.storage.sql import tables
from fed_compute.storage.sql.failures import unique_or
from fed_compute.storage.sql.rows import columns, older, record, values

_I = tables.invites.c
_INVITE = columns(tables.invites, Invite)
_NEWEST_FIRST = (_I.created_at.desc(), _I.invite_id.desc())
_BY_ID = select(*_INVITE).where(_I.invite_id == bindparam("invite_id"))
_PUT = update(tables.invites).where(_I.invite_id == bindparam("key"))


class InviteRows:
    """Invitations; of each secret only an HMAC."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, invite: Invite) -> None:
        """Insert an invitation."""
        self._connection.execute(insert(tables.invites).values(**values(invite)))

    def find(self, invite_id: str) -> Invite | None:
        """Return the invitation of this public id, if there is one."""
        row = self._connection.execute(_BY_ID, {"invite_id": invite_id}).one_or_none()
        return None if row is None else record(Invite, row)

    def put(self, invite: Invite) -> None:
        """Overwrite an invitation."""
        self._connection.execute(_PUT, {"key": invite.invite_id, **values(invite)})

    def page(self, *, limit: int, after: str | None = None, inviter: ClientId | None = None) -> list[Invite]:
        """Return at most `limit` invitations, newest first, those after the one `after`, of one inviter."""
        query = select(*_INVITE).order_by(*_NEWEST_FIRST).limit(limit)
        if after is not None:
            if (last := self.find(after)) is None:
                return []
            query = query.where(older(_I.created_at, _I.invite_id, (last.created_at, last.invite_id)))
        if inviter is not None:
            query = query.where(_I.inviter == inviter)
        return [record(Invite, row) for row in self._connection.execute(query)]


class ChallengeRows:
    """The challenges that were spent, kept until they would have run out anyway."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def spend(self, challenge_id: str, *, expires_at: float, now: float, refusal: FedComputeError) -> None:
        """Record that a challenge was used, and forget those that ran out.

        Raises:
            FedComputeError: `refusal`, if it was used before. The transaction is lost then.
        """
        spent = tables.spent_challenges
        self._connection.execute(delete(spent).where(spent.c.expires_at < now))
        with unique_or(refusal):
            self._connection.execute(insert(spent).values(challenge_id=challenge_id, expires_at=expires_at))
