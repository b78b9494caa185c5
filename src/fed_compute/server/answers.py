"""JSON answers of the calls that only this room knows. Times are Unix seconds, durations seconds."""

from typing import Any

from pydantic import Field

from fed_compute.protocol.messages import Answer


class ProtocolRange(Answer):
    """The major versions of the protocol that are spoken here."""

    lowest: int
    highest: int


class ServiceAnswer(Answer):
    """`GET /`: who is here, and what is going on."""

    name: str
    version: str
    status: str
    protocol: ProtocolRange
    job: str | None
    round_id: int | None
    model_version: str | None
    links: dict[str, str]


class HealthAnswer(Answer):
    """Liveness and readiness. `failing` names background duties that failed, by name."""

    status: str
    failing: list[str] = Field(default_factory=list)


class MetricsAnswer(Answer):
    """`GET /metrics`: counts of the whole system, of each kind of event, and of each round."""

    total_rounds: int
    rounds_closed: int
    rounds_abandoned: int
    total_clients: int
    active_clients: int
    total_updates: int
    updates_accepted: int
    updates_refused: int
    updates_late: int
    bytes_received: int
    events: dict[str, int]
    rounds: list[dict[str, Any]]


class ArrivalAnswer(Answer):
    """How long one client's update took, from lease to arrival, and how many versions it was behind if it counts."""

    client_id: str
    latency_seconds: float
    staleness: int | None


class AsyncStatsAnswer(Answer):
    """`GET /async/round/{round_id}/stats`."""

    round_id: int
    job: str
    mode: str
    state: str
    min_updates: int
    max_duration_seconds: float
    max_staleness: int
    started_at: float | None
    elapsed_seconds: float | None
    updates_received: int
    min_updates_reached: bool
    max_duration_reached: bool
    mean_latency_seconds: float | None
    arrivals: list[ArrivalAnswer]
    stragglers: list[ArrivalAnswer]


class JobAnswer(Answer):
    """One job in short. `mode` is on record; `mode_in_force` is how this coordinator opens the job's next rounds."""

    name: str
    description: str
    state: str
    model: str
    num_parameters: int
    created_at: float
    rounds_total: int
    rounds_closed: int
    current_round_id: int | None
    latest_version: str
    mode: str
    mode_in_force: str


class VersionAnswer(Answer):
    """One model version and where it comes from. `loss` and `accuracy` are what clients measured on held-out data."""

    version: str
    digest: str
    parent: str | None
    chain: str
    round_id: int | None
    num_updates: int
    num_samples: int
    created_at: float
    evaluations: int
    loss: float | None
    accuracy: float | None


class JobDetailsAnswer(JobAnswer):
    """`GET /jobs/{name}`."""

    recipe: dict[str, Any]
    parameters: list[dict[str, Any]]
    rounds: list[dict[str, Any]]
    versions: list[VersionAnswer]


class ManifestAnswer(Answer):
    """What one version was made of: `[[update_id, sha-256 of the update, weight], …]` in folding order, as text.

    `chain` is SHA-256 over the chain of the version before (64 zeros before v1), the SHA-256 of this text, and the
    model's, joined as hexadecimal text: whoever has the models can check that no version was changed.
    """

    version: str
    manifest: str
    digest: str
    chain: str


class ManifestsAnswer(Answer):
    """`GET /jobs/{name}/manifests`. `next` is what to say as `after` for the rest, null if this was all."""

    manifests: list[ManifestAnswer]
    next: str | None


class JobsAnswer(Answer):
    """`GET /jobs`, oldest first."""

    jobs: list[JobAnswer]
