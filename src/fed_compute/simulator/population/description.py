"""The fleet file: which machines there are, how they behave, and who lies.

One TOML file, or the name of a preset that ships with the product. Unknown keys are an error that names the nearest
known one, before anything is trained.
"""

import math
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from fed_compute.client.behavior import Behavior
from fed_compute.errors import AttackInvalid, FleetInvalid
from fed_compute.protocol.section import Positive, Section, explain, key_of
from fed_compute.protocol.suggestions import did_you_mean
from fed_compute.simulator.attacks import Attack, attack_named

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
_PRESETS = files("fed_compute.simulator.population") / "presets"


class AvailabilitySection(Section):
    """When machines of a class are on: for the same hours of each day, which are not the same for all of them."""

    fraction: Share = Field(default=1.0, description="Part of each day that a machine is on.")
    peak_hour: Annotated[float, Field(ge=0, lt=24)] = Field(
        default=20.0, description="Hour of the day, UTC, around which most are on."
    )
    spread_hours: Annotated[float, Field(ge=0, le=24)] = Field(
        default=3.0, description="Standard deviation of the middle of a machine's hours around the peak."
    )


class DeviceSection(Section):
    """A class of machines: how many there are, and how such a machine works."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")] = Field(
        description="Lower-case letters, digits and -, at most 31; clients are called by it."
    )
    share: Share = Field(default=1.0, description="Part of the fleet; the shares of all devices add up to 1.")
    samples_per_second: Positive = Field(default=500.0, description="Training speed of the fastest of them.")
    overhead_seconds: Seconds = Field(default=1.0, description="What each task takes beside its samples.")
    speed_spread: Annotated[float, Field(ge=1, le=1e4, allow_inf_nan=False)] = Field(
        default=1.0, description="How many times slower the slowest are; log-uniform between."
    )
    speed_variation: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.1, description="How much the speed of one machine varies from task to task, as a part of it."
    )
    memory_mib: Positive = Field(
        default=4096.0, description="Memory, MiB; too little for four copies of the model means no work."
    )
    down_mbps: Positive | None = Field(
        default=None, description="Downlink, megabits a second; if not given, fetching takes no time."
    )
    up_mbps: Positive | None = Field(
        default=None, description="Uplink, megabits a second; if not given, sending takes no time."
    )
    dropout_probability: Probability = Field(
        default=0.0, description="Probability that a machine vanishes within a task."
    )
    lateness_probability: Probability = Field(default=0.0, description="Probability that an update comes late.")
    lateness_seconds: Seconds = Field(default=0.0, description="How late, in the mean of an exponential distribution.")
    startup_delay: Seconds = Field(default=0.0, description="Seconds before a machine comes in: 50 % to 150 % of this.")
    coordinator_delay: Seconds = Field(
        default=0.0, description="Latency of a call, seconds, in the mean of an exponential distribution."
    )
    away_seconds: Seconds = Field(default=300.0, description="How long a machine that vanished stays away.")
    churn_per_day: Annotated[float, Field(ge=0, lt=1)] = Field(
        default=0.0, description="Part of the machines that leaves for good within a day."
    )
    availability: AvailabilitySection = Field(
        default_factory=AvailabilitySection, description="When machines are on; always if not given."
    )

    def behavior(self, *, speed_factor: float) -> Behavior:
        """Return how a machine of this class behaves that is so many times as slow as its fastest."""
        return Behavior(
            startup_delay=self.startup_delay,
            dropout_probability=self.dropout_probability,
            speed_factor=speed_factor,
            coordinator_delay=self.coordinator_delay,
            speed_variation=self.speed_variation,
            lateness_probability=self.lateness_probability,
            lateness_seconds=self.lateness_seconds,
            down_mbps=self.down_mbps,
            up_mbps=self.up_mbps,
        )


class AttackerSection(Section):
    """Clients that lie."""

    attack: str = Field(description="Name in the registry of attacks.")
    share: Share = Field(default=0.1, description="Part of the whole fleet that lies so.")
    settings: dict[str, float] = Field(default_factory=dict, description="Numbers of the attack, by name.")

    @field_validator("attack")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            attack_named(name)
        except AttackInvalid as error:
            raise ValueError(error.message) from error
        return name

    @model_validator(mode="after")
    def _takes_the_settings(self) -> Self:
        try:
            self.make()
        except AttackInvalid as error:
            raise ValueError(error.message) from error
        return self

    def make(self) -> Attack:
        """Return the attack."""
        return attack_named(self.attack, **self.settings)


class CoordinatorSection(Section):
    """How the coordinator of this fleet is set."""

    heartbeat_seconds: Positive = Field(default=10.0, description="Seconds between a client's heartbeats.")
    look_seconds: Positive = Field(default=5.0, description="Seconds between looks for leases that ran out.")


class FleetSpec(Section):
    """A whole fleet: at least one `[[device]]`, and what else there is."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = Field(
        default="fleet", description="How reports call the fleet."
    )
    description: Annotated[str, Field(max_length=2_000)] = Field(default="", description="What reports say about it.")
    device: Annotated[list[DeviceSection], Field(min_length=1, max_length=64)] = Field(
        description="Classes of machines, 1 to 64."
    )
    attacker: Annotated[list[AttackerSection], Field(max_length=64)] = Field(
        default_factory=list, description="Kinds of liars, up to 64; none if not given."
    )
    coordinator: CoordinatorSection = Field(
        default_factory=CoordinatorSection, description="How the coordinator of this fleet is set."
    )

    @model_validator(mode="after")
    def _shares_are_a_whole(self) -> Self:
        total = math.fsum(device.share for device in self.device)
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"the shares of the devices add up to {total:g}, wanted 1")
        if (lying := math.fsum(attacker.share for attacker in self.attacker)) >= 1.0:
            raise ValueError(f"the shares of the attackers add up to {lying:g}, wanted less than 1")
        names = [device.name for device in self.device]
        if len(set(names)) < len(names):
            raise ValueError(f"two devices have one name, found {', '.join(names)}")
        return self


def preset_names() -> list[str]:
    """Return the names of the fleets that ship with the product, sorted."""
    return sorted(entry.name.removesuffix(".toml") for entry in _PRESETS.iterdir() if entry.name.endswith(".toml"))


def load_fleet(name_or_path: str | Path) -> FleetSpec:
    """Read a fleet: a preset by name, or else a file.

    Raises:
        FleetInvalid: if there is no such preset or file, or it is no fleet: key, problem, nearest known key.
    """
    text = str(name_or_path)
    if text in preset_names():
        return parse_fleet_text((_PRESETS / f"{text}.toml").read_text(encoding="utf-8"), where=f"preset {text}")
    path = Path(name_or_path)
    if not path.is_file():
        hint = did_you_mean(text, preset_names(), cutoff=0.5)
        raise FleetInvalid(f"no fleet {text[:200]!r}{hint} presets: {', '.join(preset_names())}; or give a TOML file")
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FleetInvalid(f"fleet file {path} cannot be read: {error}") from error
    return parse_fleet_text(content, where=str(path))


def fleet_given(fleet: FleetSpec | Mapping[str, Any] | str | Path) -> FleetSpec:
    """Return a fleet that is given as such, as plain data, by the name of a preset, or by the path of a file.

    Raises:
        FleetInvalid: as `parse_fleet` and `load_fleet`.
    """
    match fleet:
        case FleetSpec():
            return fleet
        case str() | Path():
            return load_fleet(fleet)
    return parse_fleet(fleet)


def parse_fleet_text(text: str, *, where: str = "fleet") -> FleetSpec:
    """Read a fleet from TOML text; `where` names it in errors.

    Raises:
        FleetInvalid: if it is not TOML, or not a fleet.
    """
    try:
        data = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise FleetInvalid(f"{where} is not TOML: {error}") from error
    return parse_fleet(data, where=where)


def parse_fleet(data: Mapping[str, Any], *, where: str = "fleet") -> FleetSpec:
    """Check a fleet given as plain data.

    Raises:
        FleetInvalid: naming the key, what was found, and the nearest known key if the key is unknown.
    """
    try:
        return FleetSpec.model_validate(data)
    except ValidationError as error:
        raise FleetInvalid(f"{where}: {explain(error, FleetSpec, whole='fleet')}", key=key_of(error)) from error
