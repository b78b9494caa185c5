"""The fleet file: which machines there are, how they behave, and who lies.

One TOML file, or the name of a preset that ships with the product. Unknown keys are an error that names the nearest
known one, before anything is trained.
"""

import difflib
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
from fed_compute.simulator.attacks import Attack, attack_named

Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e7, allow_inf_nan=False)]
_PRESETS = files("fed_compute.simulator.population") / "presets"


class AvailabilitySection(Section):
    """When machines of a class are on: a `fraction` of each day, around `peak_hour` UTC.

    The middle of a machine's hours lies around the peak, normally distributed with `spread_hours`.
    """

    fraction: Share = 1.0
    peak_hour: Annotated[float, Field(ge=0, lt=24)] = 20.0
    spread_hours: Annotated[float, Field(ge=0, le=24)] = 3.0


class DeviceSection(Section):
    """A class of machines: a `share` of the fleet, and how such a machine works.

    `samples_per_second` is the training speed of its fastest ones; the slowest are `speed_spread` times as slow,
    log-uniform between; each task takes `overhead_seconds` more. `memory_mib` must hold four copies of the model, or
    the machine is given no work.
    `churn_per_day` is the share that leaves for good within a day. `away_seconds` is how long a machine that vanished
    within a task stays away.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]
    share: Share = 1.0
    samples_per_second: Positive = 500.0
    overhead_seconds: Seconds = 1.0
    speed_spread: Annotated[float, Field(ge=1, le=1e4, allow_inf_nan=False)] = 1.0
    speed_variation: Annotated[float, Field(ge=0, lt=1)] = 0.1
    memory_mib: Positive = 4096.0
    down_mbps: Positive | None = None
    up_mbps: Positive | None = None
    dropout_probability: Probability = 0.0
    lateness_probability: Probability = 0.0
    lateness_seconds: Seconds = 0.0
    startup_delay: Seconds = 0.0
    coordinator_delay: Seconds = 0.0
    away_seconds: Seconds = 300.0
    churn_per_day: Annotated[float, Field(ge=0, lt=1)] = 0.0
    availability: AvailabilitySection = Field(default_factory=AvailabilitySection)

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
    """Clients that lie: a `share` of the fleet, by an attack of the registry with its `settings`."""

    attack: str
    share: Share = 0.1
    settings: dict[str, float] = Field(default_factory=dict)

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
    """How the coordinator of this fleet is set: heartbeats, and how often it looks for leases that ran out."""

    heartbeat_seconds: Positive = 10.0
    look_seconds: Positive = 5.0


class FleetSpec(Section):
    """A whole fleet. The shares of the devices add up to 1; those of the attackers are of the whole fleet."""

    name: Annotated[str, Field(min_length=1, max_length=64)] = "fleet"
    description: Annotated[str, Field(max_length=2_000)] = ""
    device: Annotated[list[DeviceSection], Field(min_length=1, max_length=64)]
    attacker: Annotated[list[AttackerSection], Field(max_length=64)] = Field(default_factory=list)
    coordinator: CoordinatorSection = Field(default_factory=CoordinatorSection)

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
        nearest = difflib.get_close_matches(text, preset_names(), n=1, cutoff=0.5)
        hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
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
