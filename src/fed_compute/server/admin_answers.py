"""JSON of the operator's calls. Times are Unix seconds. No answer holds a secret but the one that makes it."""

from typing import Annotated, Literal

from pydantic import Field

from fed_compute.coordinator.client_desk import ClientView
from fed_compute.coordinator.invites import DEFAULT_DAYS, LONGEST_DAYS, MOST_USES, InviteView
from fed_compute.coordinator.key_desk import IssuedKey, KeyView
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.protocol.messages import Answer, Request, RotateAnswer, RotateRequest

Label = Annotated[str, Field(max_length=80, pattern=r"^[^\x00-\x1f\x7f]*$")]
Days = Annotated[float, Field(gt=0, le=3650, allow_inf_nan=False)]


class IssueRequest(Request):
    """`POST /admin/keys`. Without `days` the key does not expire."""

    scope: Literal["observer", "operator"]
    label: Label = ""
    days: Days | None = None


class InviteRequest(Request):
    """`POST /admin/invites`: an invitation for `uses` clients within `days`.

    `rounds_per_day` is how many training tasks each of them may take within 24 hours. `inviter` is the
    client on whose word it is made; whoever comes with it can be shut out together with that one.
    """

    uses: Annotated[int, Field(ge=1, le=MOST_USES, strict=True)] = 1
    days: Annotated[float, Field(gt=0, le=LONGEST_DAYS, allow_inf_nan=False)] = float(DEFAULT_DAYS)
    rounds_per_day: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    inviter: Annotated[str, Field(max_length=64)] | None = None
    label: Label = ""


class BanRequest(Request):
    """`POST /admin/clients/{client_id}/ban`. The reason is for operators; the client is not told."""

    reason: Label | None = None
    with_invited: Annotated[bool, Field(strict=True)] = False


class KeyAnswer(Answer):
    """One key, without its secret. `last_used_at` is known to within some seconds."""

    key_id: str
    scope: str
    client_id: str | None
    label: str
    state: Literal["live", "expired", "revoked"]
    created_at: float
    expires_at: float | None
    last_used_at: float | None
    revoked_at: float | None
    rotated_to: str | None


class IssuedKeyAnswer(KeyAnswer):
    """A new key, whose text is shown here once and never again."""

    api_key: str


class KeysAnswer(Answer):
    """A page of keys, newest first. `next` is what to send as `after` for the page after it, if there is one."""

    keys: list[KeyAnswer]
    next: str | None


class InviteAnswer(Answer):
    """One invitation, without its secret."""

    invite_id: str
    label: str
    state: Literal["open", "used_up", "expired", "revoked"]
    uses: int
    used: int
    rounds_per_day: int | None
    inviter: str | None
    created_by: str | None
    created_at: float
    expires_at: float
    revoked_at: float | None


class NewInviteAnswer(InviteAnswer):
    """A new invitation, whose text is shown here once and never again."""

    invite: str


class InvitesAnswer(Answer):
    """A page of invitations, newest first. `next` is what to send as `after` for the page after it."""

    invites: list[InviteAnswer]
    next: str | None


class ClientAnswer(Answer):
    """One client in short. `capabilities` is what it said of its machine, as JSON text."""

    client_id: str
    state: Literal["active", "pending", "banned"]
    state_reason: str | None
    registered_at: float
    last_seen_at: float
    invite_id: str | None
    rounds_per_day: int | None


class ClientDetailsAnswer(ClientAnswer):
    """One client with everything about it."""

    capabilities: str
    inviter: str | None
    invited: list[str]
    lease: str | None
    keys: list[KeyAnswer]


class ClientsAnswer(Answer):
    """A page of clients by id. `next` is what to send as `after` for the page after it."""

    clients: list[ClientAnswer]
    next: str | None


class BannedAnswer(Answer):
    """Who is shut out now: the client that was named, and those that came by its invitations if that was asked."""

    clients: list[ClientAnswer]


def key_answer(view: KeyView) -> KeyAnswer:
    """Return a key as it is told."""
    key = view.key
    return KeyAnswer(
        key_id=key.key_id,
        scope=key.scope,
        client_id=key.client_id,
        label=key.label,
        state=view.state,
        created_at=key.created_at,
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked_at=key.revoked_at,
        rotated_to=key.rotated_to,
    )


def rotated(core: Coordinator, issued: IssuedKey, old_keys: list[str], request: RotateRequest) -> RotateAnswer:
    """Return a renewed key as it is told, this once."""
    return RotateAnswer(
        client_id=issued.key.client_id,
        key_id=issued.key.key_id,
        api_key=issued.text,
        expires_at=issued.key.expires_at,
        old_keys=old_keys,
        old_keys_end_at=core.clock.now() + request.overlap_hours * 3600,
    )


def invite_answer(view: InviteView) -> InviteAnswer:
    """Return an invitation as it is told."""
    invite = view.invite
    return InviteAnswer(
        invite_id=invite.invite_id,
        label=invite.label,
        state=view.state,
        uses=invite.uses,
        used=invite.used,
        rounds_per_day=invite.rounds_per_day,
        inviter=invite.inviter,
        created_by=invite.created_by,
        created_at=invite.created_at,
        expires_at=invite.expires_at,
        revoked_at=invite.revoked_at,
    )


def client_answer(client: object) -> ClientAnswer:
    """Return a client's record in short as it is told."""
    return ClientAnswer.model_validate(client, from_attributes=True)


def client_details(view: ClientView) -> ClientDetailsAnswer:
    """Return a client as it is told."""
    return ClientDetailsAnswer(
        **client_answer(view.client).model_dump(),
        capabilities=view.client.capabilities,
        inviter=None if view.invite is None else view.invite.inviter,
        invited=[*view.invited],
        lease=None if view.lease is None else view.lease.task_id,
        keys=[key_answer(key) for key in view.keys],
    )
