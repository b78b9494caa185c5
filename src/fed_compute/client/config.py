"""Settings of one client process, read once from the environment."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, ValidationError, field_validator

from fed_compute.client.limits import LimitSettings
from fed_compute.errors import SettingInvalid
from fed_compute.ids import CLIENT_NAME_RULE, is_client_name

Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]


def _state_dir() -> Path:
    return platformdirs.user_state_path("fed-compute", appauthor=False)


ADDRESS_RULE = "an address like http://localhost:8000, without user name, query or spaces"


def is_address(url: str) -> bool:
    """Say whether a coordinator may be found under a URL, by `ADDRESS_RULE`."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets that do not match, a port out of range
        return False
    return usable and re.search(r"[\s@?#\\]", url) is None


class ClientSettings(LimitSettings):
    """Each field is an environment variable of the same name in capitals."""

    coordinator_url: str = Field(
        default="http://localhost:8000",
        description="Address of the coordinator, http or https. Example: https://train.example.org",
    )
    client_name: str | None = Field(
        default=None,
        description=f"Name to register under; {CLIENT_NAME_RULE}. Made up and kept if not set. Example: lab-pc-7",
    )
    client_api_key: SecretStr | None = Field(
        default=None,
        description="Key to use instead of registering; CLIENT_NAME must then name the client. Example: sk_ab12_…",
    )
    client_invite: SecretStr | None = Field(
        default=None,
        description="Invitation to register with, at most 200 characters, where the coordinator wants one.",
    )
    max_retries: int = Field(
        default=3,
        ge=0,
        le=100,
        description="Tries after a failed call, 0 to 100, before it counts as failed. Example: 3",
    )
    retry_delay: Seconds = Field(
        default=2.0, description="Longest wait before the first retry in seconds, 0 to 86400; doubles. Example: 2.0"
    )
    sleep_between_rounds: Seconds = Field(
        default=5.0, description="Seconds of rest after each task, 0 to 86400. Example: 5.0"
    )
    client_data: str = Field(
        default="digits",
        description="Data to train on: SOURCE[:PATH][,option=value…]. Example: digits,part=2/5,split=dirichlet",
    )
    client_state_dir: Path = Field(
        default_factory=_state_dir,
        description="Folder of credentials, unsent work and the log of what was sent; made if missing. "
        "Example: ~/.local/state/fed-compute",
    )
    client_device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where to train: auto, cpu or cuda. Example: cpu"
    )
    client_threads: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="CPU threads to train with, 1 to 1024; all cores if not set. Example: 1",
    )
    client_upload_piece_megabytes: Annotated[float, Field(ge=0.001, le=1000, allow_inf_nan=False)] = Field(
        default=8.0,
        description="Send updates longer than this in pieces of this size, 0.001 to 1000 megabytes; one that breaks "
        "off goes on where it was. Example: 1",
    )
    client_checkpoint_seconds: Seconds = Field(
        default=30.0,
        description="Seconds between checkpoints of a training, 0 to 86400; one is also made after each pass over the "
        "data. Never more than a twentieth of the time goes into them. Example: 60",
    )
    client_tracing: bool = Field(
        default=False,
        description="Tell your own OpenTelemetry of every step, as the variables OTEL_… say, and send the coordinator "
        "the trace's number; needs the extra `otel`. Example: true",
    )
    client_startup_delay: Seconds = Field(
        default=0.0, description="Simulation: seconds to wait before anything else, 0 to 86400. Example: 10"
    )
    client_dropout_probability: float = Field(
        default=0.0, ge=0, le=1, description="Simulation: chance of dropping a task mid-way, 0 to 1. Example: 0.2"
    )
    client_speed_factor: float = Field(
        default=1.0,
        ge=1,
        le=10_000,
        description="Simulation: training takes this many times longer, from 1. Example: 4",
    )
    client_coordinator_delay: Seconds = Field(
        default=0.0, description="Simulation: mean seconds of network delay before each call, 0 to 86400. Example: 0.3"
    )
    client_behavior_seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**63,
        description="Simulation: seed of dropouts, delays and back-off, from 0; fresh chance if not set. Example: 7",
    )

    @field_validator("coordinator_url")
    @classmethod
    def _usable_url(cls, url: str) -> str:
        if not is_address(url):
            raise ValueError(f"wanted {ADDRESS_RULE}")
        return url.rstrip("/")

    @field_validator("client_name")
    @classmethod
    def _usable_name(cls, name: str | None) -> str | None:
        if name is not None and not is_client_name(name):
            raise ValueError(f"wanted {CLIENT_NAME_RULE}")
        return name


def load_settings(**overrides: Any) -> ClientSettings:
    """Read the settings: an override wins over the environment, which wins over the default. None means not given.

    Raises:
        SettingInvalid: naming the variable, what was found (never a secret) and what was wanted.
    """
    unknown = sorted(overrides.keys() - ClientSettings.model_fields.keys())
    if unknown:
        raise SettingInvalid(f"unknown setting {unknown[0]!r}; known: {', '.join(sorted(ClientSettings.model_fields))}")
    try:
        return ClientSettings(**{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        raise SettingInvalid(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    problem = error.errors(include_url=False)[0]
    field = str(problem["loc"][0]) if problem["loc"] else "settings"
    secret = field in ("client_api_key", "client_invite")
    found = "" if secret else f", found {str(problem['input'])[:80]!r}"
    known = ClientSettings.model_fields.get(field)
    wanted = f" ({known.description})" if known is not None else ""
    return f"{field.upper()}: {problem['msg'].removeprefix('Value error, ')}{found}{wanted}"
