"""The owner's limits as settings: what this machine may be asked to do, and what it says."""

from typing import Annotated, Any

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from fed_compute.client.disclosure import Disclosure, Share, ShareMachine
from fed_compute.client.hours import HOURS_RULE, Hours, parse_hours
from fed_compute.client.policy import Policy
from fed_compute.ids import is_job_name
from fed_compute.protocol.messages import MAX_NUM_SAMPLES

Count = Annotated[int, Field(ge=1, le=1_000_000_000)]
Names = Annotated[tuple[str, ...], NoDecode]
_DIGEST_LENGTH = 64
_LOWER_HEX = set("0123456789abcdef")


class LimitSettings(BaseSettings):
    """Each field is an environment variable of the same name in capitals. Not set means no limit."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    client_jobs: Names = Field(
        default=(), description="Work only on these jobs, names with commas between. Example: digits,mnist"
    )
    client_models: Names = Field(
        default=(), description="Train only these models, names with commas between. Example: simple_mlp,small_cnn"
    )
    client_pinned_digests: Names = Field(
        default=(),
        description="Train only models with one of these SHA-256 digests, of a model version or of its schema, "
        "64 hexadecimal digits each, with commas between. Example: 9f86d0…0a08",
    )
    client_min_cohort: Count | None = Field(
        default=None,
        description="Refuse rounds that may average fewer updates than this, from 1; as the coordinator says. "
        "Example: 10",
    )
    client_max_auditors: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        default=None,
        description="Refuse to train where an update may be shown to more other clients than this, from 0; as the "
        "coordinator says. Example: 0",
    )
    client_min_samples: Count | None = Field(
        default=None, description="Refuse tasks that would use fewer own samples than this, from 1. Example: 32"
    )
    client_min_steps: Count | None = Field(
        default=None, description="Refuse updates made from fewer training steps than this, from 1. Example: 10"
    )
    client_max_local_epochs: Annotated[int, Field(ge=1, le=1_000)] | None = Field(
        default=None, description="Refuse tasks of more passes over the data than this, 1 to 1000. Example: 5"
    )
    client_max_samples: Count | None = Field(
        default=None, description="Refuse tasks of more samples times local epochs than this, from 1. Example: 100000"
    )
    client_max_model_megabytes: Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False)] = Field(
        default=1000.0,
        description="Refuse models larger than this, in megabytes, up to 100000; training takes about four times as "
        "much memory. Example: 50",
    )
    client_max_training_seconds: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] | None = Field(
        default=None, description="Give a task back when its training takes longer, seconds up to 1e6. Example: 600"
    )
    client_max_rounds_per_day: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        default=None,
        description="Send at most so many updates a day, 1 to 100000, counted over all clients with this state folder. "
        "Example: 3",
    )
    client_hours: Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description=f"Work only in these hours: {HOURS_RULE}. Example: 22-6"
    )
    client_ac_power_only: bool = Field(
        default=False, description="Work only while plugged in, true or false. Example: true"
    )
    client_evaluate: bool = Field(
        default=True, description="Whether to measure models on own held-out data, true or false. Example: false"
    )
    client_audits: bool = Field(
        default=True,
        description="Whether to audit updates of others on own held-out data, true or false. Example: false",
    )
    client_max_update_norm: Annotated[float, Field(ge=1e-6, le=1e9, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Scale updates down to this L2 norm, 1e-6 to 1e9; the job's limit holds as well. Example: 1.0",
    )
    client_share_sample_count: Share = Field(
        default="exact",
        description="How to tell the number of samples, by which an update weighs: exact, rounded (down to a power of "
        "two) or hidden (1; then no jobs that count steps). Example: rounded",
    )
    client_max_sample_count: Annotated[int, Field(ge=1, le=MAX_NUM_SAMPLES)] = Field(
        default=MAX_NUM_SAMPLES, description="Largest number of samples to tell, 1 to 10000000. Example: 1000"
    )
    client_share_loss: Share = Field(
        default="rounded",
        description="How to tell losses: exact, rounded (3 digits) or hidden (then no evaluations and no audits). "
        "Example: hidden",
    )
    client_share_seconds: Share = Field(
        default="hidden",
        description="How to tell the training time: exact, rounded (whole seconds) or hidden. Example: rounded",
    )
    client_share_machine: ShareMachine = Field(
        default="version",
        description="What to tell of the machine when registering: none, version (of this program) or all (processors, "
        "memory, CUDA). Example: none",
    )
    client_keep_updates: Annotated[int, Field(ge=0, le=100_000)] = Field(
        default=0, description="Keep a copy of so many of the newest updates that were sent, 0 to 100000. Example: 20"
    )
    client_spool_megabytes: Annotated[float, Field(ge=0.01, le=100_000, allow_inf_nan=False)] = Field(
        default=2000.0,
        description="Largest size of the finished updates that wait to be sent, 0.01 to 100000 megabytes; tasks whose "
        "update might need more are refused. Example: 100",
    )
    client_sent_log_megabytes: Annotated[float, Field(ge=0.01, le=10_000, allow_inf_nan=False)] = Field(
        default=10.0,
        description="Largest size of the log of what was sent, 0.01 to 10000 megabytes; the oldest half goes first. "
        "Example: 10",
    )

    @field_validator("client_jobs", "client_models", "client_pinned_digests", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        return tuple(name for part in value.split(",") if (name := part.strip())) if isinstance(value, str) else value

    @field_validator("client_jobs")
    @classmethod
    def _usable_jobs(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in names if not is_job_name(name)]:
            raise ValueError(f"{wrong[0][:80]!r} is not a job name: lower-case letters, digits, - and _, at most 64")
        return names

    @field_validator("client_pinned_digests")
    @classmethod
    def _usable_digests(cls, digests: tuple[str, ...]) -> tuple[str, ...]:
        lower = tuple(digest.lower() for digest in digests)
        if wrong := [one for one in lower if len(one) != _DIGEST_LENGTH or not _LOWER_HEX.issuperset(one)]:
            raise ValueError(f"{wrong[0][:80]!r} is not a SHA-256 digest of 64 hexadecimal digits")
        return lower

    @field_validator("client_hours")
    @classmethod
    def _usable_hours(cls, text: str | None) -> str | None:
        if text is not None:
            parse_hours(text)
        return text


def policy_of(settings: LimitSettings) -> Policy:
    """Return what the settings allow. A loss that is hidden cannot be measured for anyone."""
    shares_loss = settings.client_share_loss != "hidden"
    return Policy(
        jobs=frozenset(settings.client_jobs),
        models=frozenset(settings.client_models),
        pinned_digests=frozenset(settings.client_pinned_digests),
        min_cohort=settings.client_min_cohort,
        max_auditors=settings.client_max_auditors,
        min_samples=settings.client_min_samples,
        min_steps=settings.client_min_steps,
        max_local_epochs=settings.client_max_local_epochs,
        max_samples=settings.client_max_samples,
        max_model_megabytes=settings.client_max_model_megabytes,
        spool_megabytes=settings.client_spool_megabytes,
        max_training_seconds=settings.client_max_training_seconds,
        max_rounds_per_day=settings.client_max_rounds_per_day,
        hours=_hours(settings.client_hours),
        ac_power_only=settings.client_ac_power_only,
        evaluate=settings.client_evaluate and shares_loss,
        audits=settings.client_audits and shares_loss,
        share_sample_count=settings.client_share_sample_count != "hidden",
        max_sample_count=settings.client_max_sample_count,
    )


def disclosure_of(settings: LimitSettings) -> Disclosure:
    """Return what the settings let out beside an update's values."""
    return Disclosure(
        sample_count=settings.client_share_sample_count,
        loss=settings.client_share_loss,
        seconds=settings.client_share_seconds,
        max_sample_count=settings.client_max_sample_count,
    )


def limits_set(settings: LimitSettings) -> dict[str, Any]:
    """Return the limits that are not at their default: the variable's name → its value."""
    return {
        name.upper(): value
        for name, info in LimitSettings.model_fields.items()
        if (value := getattr(settings, name)) != info.get_default(call_default_factory=True)
    }


def _hours(text: str | None) -> Hours | None:
    return None if text is None else parse_hours(text)
