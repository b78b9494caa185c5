"""What the coordinator's journal says about a run: its rounds, and each client's doing. A pure fold."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SIGNS_OF_LIFE = frozenset(
    {"client_registered", "task_assigned", "update_accepted", "update_late", "update_refused", "evaluation_recorded"}
)
"""The journal's kinds that only a client's own request brings about."""


@dataclass(slots=True)
class RoundStory:
    """One round. Times are Unix seconds; `measured` is what each client found on its held-out samples."""

    round_id: int
    number: int
    state: str = "open"
    updates: int = 0
    train_loss_sum: float = 0.0
    samples: int = 0
    closed_at: float | None = None
    started_at: float | None = None
    measured: dict[str, tuple[int, float, float]] = field(default_factory=dict)
    deaths: int = 0

    @property
    def train_loss(self) -> float | None:
        """The mean loss while training, weighted by samples."""
        return self.train_loss_sum / self.samples if self.samples else None

    @property
    def loss(self) -> float | None:
        """The new model's mean loss on held-out samples."""
        return self._mean(1)

    @property
    def accuracy(self) -> float | None:
        """The share of held-out samples that the new model gets right."""
        return self._mean(2)

    def _mean(self, place: int) -> float | None:
        samples = sum(found[0] for found in self.measured.values())
        return sum(found[0] * found[place] for found in self.measured.values()) / samples if samples else None


@dataclass(slots=True)
class ClientStory:
    """One client. It has `joined` once it was heard of, and is `away` from its death until it is heard of again."""

    name: str
    doing: str = "starting: loading PyTorch"
    joined: bool = False
    updates: int = 0
    samples: int = 0
    accuracy: float | None = None
    died: int = 0
    came_back: int = 0
    away: bool = False
    restarted_at: float | None = None

    @property
    def is_at_work(self) -> bool:
        """Whether it was heard of since its last start."""
        return self.joined and not self.away


class Story:
    """The run so far. Feed it every journal entry, in order, and every death."""

    def __init__(self, names: tuple[str, ...], *, rounds_total: int, target_updates: int) -> None:
        self.rounds_total = rounds_total
        self.target_updates = target_updates
        self.url = ""  # the coordinator's, once it listens
        self.rounds: dict[int, RoundStory] = {}
        self.clients = {name: ClientStory(name) for name in names}
        self.is_finished = False

    @property
    def closed(self) -> list[RoundStory]:
        """The rounds that have a result, oldest first."""
        return [round_ for round_ in self.rounds.values() if round_.state == "closed"]

    @property
    def current(self) -> RoundStory | None:
        """The newest round, None before the first."""
        return next(reversed(self.rounds.values()), None)

    @property
    def is_complete(self) -> bool:
        """Whether the job is finished and every client has measured the final model."""
        return self.is_finished and bool(self.closed) and len(self.closed[-1].measured) >= len(self.clients)

    def is_settled(self, round_: RoundStory) -> bool:
        """Whether a round's figures will hardly change any more: all have measured, or the next round has closed."""
        newer = any(other.round_id > round_.round_id for other in self.closed)
        return newer or len(round_.measured) >= len(self.clients)

    def take(self, entry: Mapping[str, Any]) -> None:
        """Take in one entry of the journal."""
        client = self.clients.get(entry["client_id"] or "")
        if client is not None:
            self._take_sign(client, entry)
        if entry["kind"] == "round_opened":
            self.rounds[entry["round_id"]] = RoundStory(entry["round_id"], entry["number"])
        elif entry["kind"] == "job_finished":
            self.is_finished = True
        round_ = self.rounds.get(entry["round_id"] or 0)
        if round_ is not None:
            _take_into_round(round_, entry)
            if client is not None:
                _take_into_client(client, round_, entry, is_finished=self.is_finished)

    def died(self, name: str) -> None:
        """Note that a client was killed."""
        client = self.clients[name]
        client.died += 1
        client.away, client.restarted_at = True, None
        client.doing = "killed"
        if self.current is not None:
            self.current.deaths += 1

    def restarted(self, name: str, *, at: float) -> None:
        """Note that a killed client was started again, in Unix seconds. It is back when it is heard of after that."""
        client = self.clients[name]
        client.restarted_at, client.doing = at, "starting again"

    def _take_sign(self, client: ClientStory, entry: Mapping[str, Any]) -> None:
        if entry["kind"] not in SIGNS_OF_LIFE:
            return
        if not client.joined:
            client.joined, client.doing = True, "joined"
        if client.away and client.restarted_at is not None and entry["at"] >= client.restarted_at:
            client.away, client.restarted_at = False, None
            client.came_back += 1


def _take_into_round(round_: RoundStory, entry: Mapping[str, Any]) -> None:
    match entry["kind"]:
        case "round_started":
            round_.state, round_.started_at = "collecting", entry["at"]
        case "round_aggregating":
            round_.state = "aggregating"
        case "round_closed":
            round_.state, round_.closed_at = "closed", entry["at"]
        case "round_abandoned":
            round_.state, round_.closed_at = "given up", entry["at"]
        case "update_accepted":
            round_.updates += 1
            if entry["loss"] is not None:
                round_.samples += entry["num_samples"]
                round_.train_loss_sum += entry["loss"] * entry["num_samples"]
        case "evaluation_recorded":
            found = (entry["num_samples"], entry["loss"], entry["accuracy"] or 0.0)
            round_.measured[entry["client_id"]] = found


def _take_into_client(client: ClientStory, round_: RoundStory, entry: Mapping[str, Any], *, is_finished: bool) -> None:
    doing = client.doing
    match entry["kind"]:
        case "task_assigned":
            doing = f"training, round {round_.number}" if entry["task"] == "train" else "measuring the new model"
        case "update_accepted":
            client.updates += 1
            client.samples = entry["num_samples"]
            doing = f"update sent, round {round_.number}"
        case "update_late" | "task_cancelled" | "task_expired":
            doing = f"too late for round {round_.number}"
        case "evaluation_recorded":
            client.accuracy = entry["accuracy"]
            doing = "done" if is_finished else "waiting for a task"
    if client.is_at_work:  # what a dead client did just before comes after its death
        client.doing = doing
