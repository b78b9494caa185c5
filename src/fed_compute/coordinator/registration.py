"""Who may come in: anybody, whoever was invited, whoever an operator approves, or whoever did some work for it."""

from dataclasses import dataclass, replace
from enum import StrEnum

from fed_compute.coordinator.auth import AuthManager, Entry
from fed_compute.coordinator.invites import InviteDesk
from fed_compute.coordinator.proof_of_work import Challenges
from fed_compute.errors import InviteRequired
from fed_compute.ids import ClientId
from fed_compute.protocol.messages import Proof
from fed_compute.rounds.records import Client, ClientState
from fed_compute.storage.sql.store import Records


class RegistrationPolicy(StrEnum):
    """How the door stands for somebody without an invitation. A good invitation always opens it."""

    OPEN = "open"
    INVITE = "invite"
    APPROVAL = "approval"
    PROOF_OF_WORK = "proof-of-work"


@dataclass(frozen=True, slots=True)
class Registered:
    """A client that came in, and its key, which is shown only this once. A pending one has to be approved first."""

    client_id: ClientId
    key: str
    is_pending: bool


class Registrar:
    """Lets newcomers in, as the policy says."""

    def __init__(
        self, policy: RegistrationPolicy, auth: AuthManager, invites: InviteDesk, challenges: Challenges
    ) -> None:
        self._policy = policy
        self._auth = auth
        self._invites = invites
        self._challenges = challenges

    def register(
        self, name: str | None, *, capabilities: str = "{}", invite: str | None = None, proof: Proof | None = None
    ) -> Registered:
        """Register a client. Until one that is pending is approved, its key opens nothing but its own state.

        Raises:
            ClientNameInvalid, ClientNameTaken: if the name cannot be had.
            InviteInvalid: if an invitation is given that opens nothing, whatever the policy.
            InviteRequired, ProofOfWorkRequired: if the policy asks for more than was given.
        """
        entry = self._invites.entry(invite) if invite is not None else self._entry(proof)
        client, key = self._auth.admit(name, capabilities=capabilities, entry=entry)
        return Registered(client.client_id, key, is_pending=client.state is ClientState.PENDING)

    def only_asks(self, *, invite: str | None, proof: Proof | None) -> bool:
        """Say whether such a try can only be the first half of a registration, which brings the challenge."""
        return self._policy is RegistrationPolicy.PROOF_OF_WORK and invite is None and proof is None

    def _entry(self, proof: Proof | None) -> Entry:
        match self._policy:
            case RegistrationPolicy.OPEN:
                return _let_in
            case RegistrationPolicy.INVITE:
                raise InviteRequired()
            case RegistrationPolicy.APPROVAL:
                return _let_wait
            case RegistrationPolicy.PROOF_OF_WORK:
                return self._challenges.entry(proof)


def _let_in(records: Records, client: Client) -> Client:
    return client


def _let_wait(records: Records, client: Client) -> Client:
    return replace(client, state=ClientState.PENDING)
