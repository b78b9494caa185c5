"""Who may come in: anybody, whoever was invited, whoever an operator approves, or whoever did some work for it."""

from collections.abc import Callable
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
