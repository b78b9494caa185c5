"""Invitations: made by an operator, good for a number of clients and a number of days."""

from dataclasses import dataclass, replace
from typing import Any, Literal

from fed_compute.clock import Clock
from fed_compute.coordinator.auth import Entry
from fed_compute.coordinator.keys import InviteText, new_invite, parse_invite, secret_hmac, secret_matches
from fed_compute.errors import ClientNotFound, InviteInvalid, InviteNotFound
from fed_compute.ids import ClientId
from fed_compute.rounds.records import Client, ClientState, Invite
from fed_compute.storage.sql.store import Records, Store

DEFAULT_DAYS = 7
LONGEST_DAYS = 365
MOST_USES = 10_000


@dataclass(frozen=True, slots=True)
class InviteView:
    """An invitation as it stands now."""

    invite: Invite
    state: Literal["open", "used_up", "expired", "revoked"]


@dataclass(frozen=True, slots=True)
class NewInvite:
    """A new invitation. Its text is shown this once and kept nowhere."""

    invite: Invite
    text: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What an invitation grants: so many clients, so long, and each so many training tasks within 24 hours."""

    uses: int = 1
    lifetime_seconds: float = DEFAULT_DAYS * 86_400.0
    rounds_per_day: int | None = None
    inviter: ClientId | None = None
    label: str = ""


class InviteDesk:
    """Makes, lists, revokes and redeems invitations. Only an HMAC of a secret is ever stored."""

    def __init__(self, store: Store, clock: Clock, *, pepper: bytes, previous_pepper: bytes | None = None) -> None:
        self._store = store
        self._clock = clock
        self._peppers = (pepper,) if previous_pepper is None else (pepper, previous_pepper)

    def create(self, terms: Terms, *, by: str) -> NewInvite:
        """Make an invitation.

        Raises:
            ClientNotFound: if the inviter is no client.
        """
        text, now = new_invite(), self._clock.now()
        invite = Invite(
            invite_id=text.invite_id,
            secret_hmac=secret_hmac(text.secret, pepper=self._peppers[0]),
            label=terms.label,
            created_at=now,
            created_by=by,
            inviter=terms.inviter,
            expires_at=now + terms.lifetime_seconds,
            uses=terms.uses,
            rounds_per_day=terms.rounds_per_day,
        )
        with self._store.transaction() as records:
            if terms.inviter is not None and records.clients.find(terms.inviter) is None:
                raise ClientNotFound(terms.inviter)
            records.invites.add(invite)
            self._note(records, "invite_created", invite, by=by, uses=terms.uses)
        return NewInvite(invite, text.write())

    def page(self, *, limit: int, after: str | None = None, inviter: ClientId | None = None) -> list[InviteView]:
        """Return invitations, newest first, those after the one `after`."""
        with self._store.snapshot() as records:
            invites = records.invites.page(limit=limit, after=after, inviter=inviter)
        return [InviteView(invite, _state_of(invite, self._clock.now())) for invite in invites]

    def revoke(self, invite_id: str, *, by: str) -> InviteView:
        """End an invitation now. Who came with it stays. Doing it twice changes nothing.

        Raises:
            InviteNotFound: if there is no such invitation.
        """
        with self._store.transaction() as records:
            invite = records.invites.find(invite_id)
            if invite is None:
                raise InviteNotFound(invite_id)
            if invite.revoked_at is None:
                invite = replace(invite, revoked_at=self._clock.now())
                records.invites.put(invite)
                self._note(records, "invite_revoked", invite, by=by)
            return InviteView(invite, "revoked")

    def entry(self, text: str) -> Entry:
        """Return the door of an invitation: who passes has used it, and has its quota.

        Raises:
            InviteInvalid: if the text is no invitation. The entry itself raises it for one that opens
                nothing: unknown, used up, expired, revoked, or of an inviter who was shut out.
        """
        invite = parse_invite(text)
        if invite is None:
            raise InviteInvalid()

        def enter(records: Records, client: Client) -> Client:
            return self._redeem(records, client, invite)

        return enter

    def _redeem(self, records: Records, client: Client, text: InviteText) -> Client:
        invite = records.invites.find(text.invite_id)
        stored = None if invite is None else invite.secret_hmac
        fits = [secret_matches(text.secret, stored, pepper=pepper) for pepper in self._peppers]
        if invite is None or not any(fits):
            raise InviteInvalid()
        state = "revoked" if self._is_cut_off(records, invite) else _state_of(invite, self._clock.now())
        if state != "open":
            raise InviteInvalid(state.replace("_", " "))
        records.invites.put(replace(invite, used=invite.used + 1))
        return replace(
            client, state=ClientState.ACTIVE, invite_id=invite.invite_id, rounds_per_day=invite.rounds_per_day
        )

    def _is_cut_off(self, records: Records, invite: Invite) -> bool:
        inviter = None if invite.inviter is None else records.clients.find(invite.inviter)
        return inviter is not None and inviter.state is ClientState.BANNED

    def _note(self, records: Records, kind: str, invite: Invite, **payload: Any) -> None:
        records.journal.append(
            kind, at=self._clock.now(), client_id=invite.inviter, invite_id=invite.invite_id, **payload
        )


def _state_of(invite: Invite, now: float) -> Literal["open", "used_up", "expired", "revoked"]:
    if invite.revoked_at is not None:
        return "revoked"
    if invite.used >= invite.uses:
        return "used_up"
    return "expired" if now >= invite.expires_at else "open"
