"""The coordinator's settings: read once, checked once, never changed.

Every field can be set by the environment variable `FED_COMPUTE_<FIELD>`; those that the original
request names are read under exactly that name as well.
"""

import dataclasses
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fed_compute.coordinator.rate_limiter import Quotas
from fed_compute.coordinator.registration import RegistrationPolicy
from fed_compute.errors import SettingInvalid
from fed_compute.protocol.job import MAX_NUM_SAMPLES, JobSpec
from fed_compute.protocol.proof_of_work import MOST_BITS
from fed_compute.rounds.quota import QuotaRules
from fed_compute.rounds.rewards import LARGEST_BASE_TOKENS, RewardRules

PREFIX = "FED_COMPUTE_"
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1, le=1_000_000_000)]
Tokens = Annotated[float, Field(ge=0, le=LARGEST_BASE_TOKENS, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


def _named(name: str, default: Any, description: str) -> Any:
    """Declare a field that the environment may also set under a `name` without the prefix."""
    return Field(
        default=default, validation_alias=AliasChoices(name, f"{PREFIX}{name}", name.lower()), description=description
    )


class CoordinatorSettings(BaseSettings):
    """Everything an operator can set for one coordinator process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    data_dir: Path = Field(default=Path("fed-compute-data"), description="Folder for database, blobs and keys.")
    database_url: str | None = Field(
        default=None,
        description="SQLite or PostgreSQL; default is SQLite in the data folder. Example: postgresql://u@h/db",
    )
    blob_url: str | None = Field(
        default=None,
        description="Object store for models and updates; default is the data folder. Example: s3://bucket/prefix",
    )
    rate_limit_url: str = Field(
        default="memory://", description="Where rates are counted. Example: redis://localhost:6379/0"
    )
    pepper: SecretStr | None = Field(
        default=None,
        description="Secret under which keys are kept, 64 hex digits, the same for all replicas; default is a file "
        "in the data folder.",
    )
    previous_pepper: SecretStr | None = Field(
        default=None,
        description="The pepper before this one, while keys move to the new one; default is the file pepper.previous "
        "in the data folder, if there is one.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on. Example: 0.0.0.0")
    port: Annotated[int, Field(ge=0, le=65535)] = Field(default=8000, description="TCP port; 0 takes a free one.")
    allow_query_keys: bool = Field(
        default=True, description="Accept API keys in the query or body, as clients of the first API send them."
    )
    trusted_proxies: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = Field(
        default=(),
        description="Proxies whose X-Forwarded-For is believed, addresses or networks. Example: 10.0.0.0/8,127.0.0.1",
    )
    registration: RegistrationPolicy = Field(
        default=RegistrationPolicy.OPEN,
        description="Who may register: open, invite, approval or proof-of-work. An invitation always opens.",
    )
    difficulty_bits: Annotated[int, Field(ge=1, le=MOST_BITS)] = Field(
        default=20, description="Proof of work of a newcomer: 2^bits hashes on average, 20 are about a second."
    )
    requests_per_minute: PositiveInt = Field(
        default=1200, description="Requests that one client, or one key without a client, may send per minute."
    )
    updates_per_minute: PositiveInt = Field(default=300, description="Updates one client may send per minute.")
    upload_mib_per_hour: PositiveInt = Field(
        default=20_480, description="Mebibytes of updates one client may send per hour."
    )
    uploads_per_client: PositiveInt = Field(default=2, description="Updates one client may be sending at a moment.")
    uploads_at_once: PositiveInt = Field(default=16, description="Updates that one process takes in at a moment.")
    registrations_per_hour: PositiveInt = Field(
        default=600, description="Registrations that one network (/24, /48) may make per hour."
    )
    failed_authentications_per_minute: PositiveInt = Field(
        default=30, description="Wrong keys from one network per minute, after which its keys are refused unseen."
    )
    network_requests_per_minute: PositiveInt = Field(
        default=30_000, description="Requests that one network may send per minute, with a key or without."
    )
    network_updates_per_minute: PositiveInt = Field(
        default=12_000, description="Updates that one network may send per minute."
    )
    network_upload_mib_per_hour: PositiveInt = Field(
        default=204_800, description="Mebibytes of updates one network may send per hour."
    )
    heartbeat_seconds: Positive = Field(default=10.0, description="Interval of heartbeats; three missed end a lease.")
    active_seconds: Positive = Field(default=45.0, description="How long a silent client counts as present.")
    checkins_per_second: Positive = Field(
        default=50.0,
        description="Requests for work that this coordinator bears in one second; more clients are told to ask less "
        "often.",
    )
    json_max_parameters: PositiveInt = Field(default=1_000_000, description="Largest model answered as JSON.")
    json_max_bytes: PositiveInt = Field(default=64 << 20, description="Largest JSON body taken, in bytes.")
    max_update_norm: Positive | None = Field(
        default=None, description="L2 norm above which an update is refused; default 10·sqrt(parameters)."
    )
    max_num_samples: Annotated[int, Field(ge=1, le=MAX_NUM_SAMPLES)] | None = Field(
        default=None, description="Largest sample count an update may claim, for jobs that set none. Example: 100000"
    )
    newcomer_quota: PositiveInt = Field(
        default=20, description="Tasks that a client may take on its first day; doubles with each valid result."
    )
    daily_quota: PositiveInt = Field(default=100_000, description="Most tasks that one client may take on one day.")
    shutdown_seconds: Positive = Field(default=10.0, description="Longest time from SIGTERM to the end of the process.")
    tracing: bool = Field(
        default=False,
        description="Tell OpenTelemetry of every step, as the variables OTEL_… say; needs the extra `otel`.",
    )
    log_level: str = Field(default="info", description="debug, info, warning or error.")

    enable_async_rounds: bool = _named(
        "ENABLE_ASYNC_ROUNDS", False, "Open rounds as asynchronous ones, of jobs on record too."
    )
    async_min_updates: PositiveInt = _named("ASYNC_MIN_UPDATES", 2, "Updates that close an asynchronous round.")
    async_max_duration: Positive = _named("ASYNC_MAX_DURATION", 300.0, "Longest asynchronous round, in seconds.")
    incentive_base_reward: Tokens = _named(
        "INCENTIVE_BASE_REWARD", 10.0, "Tokens for one counted update, 0 to 10000. Example: 2.5"
    )
    incentive_speed_threshold: Seconds = _named(
        "INCENTIVE_SPEED_THRESHOLD", 30.0, "Seconds from lease to update that still earn the speed bonus."
    )
    incentive_consistency_threshold: PositiveInt = _named(
        "INCENTIVE_CONSISTENCY_THRESHOLD", 5, "Updates in a row that earn the consistency bonus."
    )

    incentive_speed_curve: bool = _named(
        "INCENTIVE_SPEED_CURVE", False, "Let the speed bonus follow the share of the deadline, not the threshold."
    )

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _networks(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        return tuple(ip_network(part) for part in value)

    def quotas(self) -> Quotas:
        """Return the numbers of the rate limits."""
        return Quotas(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Quotas)})

    def quota_rules(self) -> QuotaRules:
        """Return the numbers of the daily quota."""
        return QuotaRules(newcomer=min(self.newcomer_quota, self.daily_quota), ceiling=self.daily_quota)

    def reward_rules(self) -> RewardRules:
        """Return the numbers of the incentive system."""
        return RewardRules(
            base_tokens=self.incentive_base_reward,
            speed_threshold_seconds=self.incentive_speed_threshold,
            consistency_threshold=self.incentive_consistency_threshold,
            is_speed_curved=self.incentive_speed_curve,
        )

    def applied_to(self, spec: JobSpec) -> JobSpec:
        """Return the job as its next rounds are opened here: asynchronous if the environment asks for that.

        What is on record stays as the job file says, so the setting may change from one start to the next.
        """
        if not self.enable_async_rounds:
            return spec
        rounds = spec.rounds.model_copy(
            update={
                "mode": "async",
                "min_updates": self.async_min_updates,
                "target_updates": max(spec.rounds.target_updates, self.async_min_updates),
                "deadline_seconds": self.async_max_duration,
                "concurrency": None,
                "max_staleness": None,
            }
        )
        return spec.model_copy(update={"rounds": rounds})


def load_settings(**overrides: Any) -> CoordinatorSettings:
    """Read the settings; `overrides` (flags) win over the environment, None means not given.

    Raises:
        SettingInvalid: naming the setting, what was found and what was wanted.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return CoordinatorSettings(**given)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise SettingInvalid(f"setting {where}: {first['msg']}, found {first['input']!r:.60}") from error
