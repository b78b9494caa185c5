"""From a grid to the simulations it stands for, each of them checked before the first begins."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_args

from fed_compute.errors import FedComputeError, SweepInvalid
from fed_compute.protocol.job import JobSpec, parse_job
from fed_compute.protocol.section import Section
from fed_compute.simulator.cohort import Plan
from fed_compute.simulator.models import start_of
from fed_compute.simulator.population import FleetSpec, fleet_given
from fed_compute.simulator.report import Setup
from fed_compute.simulator.run import holdings_of, resolved
from fed_compute.simulator.samples import Arrays, Samples, load_samples
from fed_compute.simulator.splits import Split
from fed_compute.simulator.sweeps.grid import FREE, Grid, written

Behavior = str | Path | FleetSpec | Mapping[str, Any]
_SHARE_OF_ATTACKERS = 0.2
_LONGEST_NAME = 80
_MOST_REASONS = 3
_OF_SIMULATE = ("clients", "data", "measure_every", "plan", "samples_per_client", "seed", "split")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "clients": ((int,), "a whole number"),
    "data": ((str,), "a data specification"),
    "plan": ((str, type(None)), "a training path, or none"),
    "samples_per_client": ((int, type(None)), "a whole number, or none"),
    "seed": ((int,), "a whole number"),
    "split": ((str,), "a split such as dirichlet:0.3"),
    "attack": ((str,), "the name of an attack"),
    "attackers": ((int, float), "a share from 0 to 1"),
}


@dataclass(frozen=True, slots=True)
class Base:
    """What all simulations of a sweep have in common where the grid says nothing: the arguments of `simulate`."""

    job: JobSpec
    clients: int
    data: str | Arrays
    behavior: Behavior
    seed: int
    split: str
    samples_per_client: int | None
    measure_every: int
    plan: str | None


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation of a sweep: its number from 1, the name of its report's folder, and every argument, resolved.

    `values` are the grid's keys with this run's values. `data` is None for arrays.
    """

    number: int
    folder: str
    values: Mapping[str, Any]
    job: JobSpec
    fleet: FleetSpec
    clients: int
    data: str | None
    seed: int
    split: str
    samples_per_client: int | None
    measure_every: int
    plan: str | None

    def to_json(self) -> dict[str, Any]:
        """Return what another process needs; `from_json` reads it back."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name not in ("job", "fleet", "values")}
        return {**plain, "job": self.job.model_dump_json(), "fleet": self.fleet.model_dump_json()}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; `values` are left out."""
        job, fleet = JobSpec.model_validate_json(found["job"]), FleetSpec.model_validate_json(found["fleet"])
        return cls(**{**found, "job": job, "fleet": fleet, "values": {}})


@dataclass(frozen=True, slots=True)
class Design:
    """A sweep before it begins: the grid, what is common, and the runs in the order of the grid."""

    base: Base
    grid: Grid
    runs: tuple[Run, ...]

    @classmethod
    def of(cls, base: Base, grid: Grid) -> Self:
        """Resolve and check every combination.

        Raises:
            SweepInvalid: if one is no simulation, saying which and why.
            DatasetInvalid, DatasetMissing: if data cannot be used or had.
        """
        runs, wrong, checks = [], [], _Checks(base)
        for number, values in enumerate(grid, start=1):
            try:
                run = _run(number, values, base, grid)
                checks.look(run)
                runs.append(run)
            except FedComputeError as error:
                wrong.append((values, error))
        if wrong:
            raise SweepInvalid(_told(wrong, grid))
        return cls(base, grid, tuple(runs))


def label(value: Any) -> str:
    """Return a value as a table shows it."""
    match value:
        case FleetSpec():
            return value.name
        case Mapping():
            return str(value.get("name", "fleet"))
        case Path():
            return value.stem
    return written(value)


def describe(values: Mapping[str, Any]) -> str:
    """Return a combination as words: `lr=0.1, rule=robust`."""
    return ", ".join(f"{key}={label(value)}" for key, value in values.items())


class _Checks:
    """Looks whether a run could begin. What runs share is looked at once."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._samples: dict[str | None, Samples] = {}
        self._good: set[tuple[object, ...]] = set()

    def look(self, run: Run) -> None:
        """Read the plan, describe the model and share the data out, as the run would.

        Raises:
            FedComputeError: what `simulate` would raise.
        """
        if run.plan is not None and run.plan != "auto":
            Plan.parse(run.plan)
        samples = self._samples.get(run.data)
        if samples is None:
            samples = self._samples[run.data] = load_samples(self._base.data if run.data is None else run.data)
        evaluation, model = run.job.evaluation, run.job.model.model_dump_json()
        key = (run.data, run.clients, run.split, run.samples_per_client, evaluation, model)
        if key not in self._good:
            start_of(run.job)
            split, size = Split.parse(run.split), run.samples_per_client
            setup = Setup(run.job, run.fleet, run.clients, split, run.seed, size, run.data, run.measure_every)
            holdings_of(setup, samples)
            self._good.add(key)


def _run(number: int, values: Mapping[str, Any], base: Base, grid: Grid) -> Run:
    named = grid.settings(values)
    own = {key: _of_kind(key, named.pop(key)) for key in list(named) if key in _KINDS}
    fleet = _fleet(named.pop("behavior", base.behavior), own.pop("attack", None), own.pop("attackers", None))
    given = {name: own.get(name, getattr(base, name)) for name in _OF_SIMULATE}
    data = given.pop("data")
    job = resolved(_job(base.job, named), seed=given["seed"], rounds=None)
    return Run(
        number, _folder(number, values, grid), values, job, fleet, data=data if isinstance(data, str) else None, **given
    )


def _folder(number: int, values: Mapping[str, Any], grid: Grid) -> str:
    differing = {key: value for key, value in values.items() if len(grid.axes[key]) > 1}
    name = re.sub(r"[^A-Za-z0-9.,=_-]+", "-", f"{number:03} {describe(differing)}".replace(", ", ","))
    return name[:_LONGEST_NAME].rstrip(".,=-")


def _of_kind(key: str, value: Any) -> Any:
    kinds, wanted = _KINDS[key]
    value = None if value == "none" and type(None) in kinds else value
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise SweepInvalid(f"{key} is {written(value)[:60]}, wanted {wanted}", key=key)
    return value


def _fleet(behavior: Behavior, attack: str | None, share: float | None) -> FleetSpec:
    """Return the fleet, its liars replaced where an attack is asked for."""
    if not isinstance(behavior, str | Path | FleetSpec | Mapping):
        raise SweepInvalid(f"behavior is {written(behavior)[:60]}, wanted a preset or a fleet file", key="behavior")
    fleet = fleet_given(behavior)
    if attack is None:
        if share is not None:
            raise SweepInvalid(
                "attackers says how many lie, but nothing says how; give attack as well", key="attackers"
            )
        return fleet
    liars = [{"attack": attack, "share": _SHARE_OF_ATTACKERS if share is None else share}]
    return fleet_given({**fleet.model_dump(exclude_none=True), "attacker": [] if attack == "none" else liars})


def _job(job: JobSpec, changes: Mapping[str, Any]) -> JobSpec:
    """Return a job with other values for some keys, checked as a whole.

    Raises:
        JobFileInvalid: if it is none.
    """
    tables = job.model_dump(exclude_none=True)
    for key, value in changes.items():
        if key.startswith(FREE):
            tables["model"]["args"][key.removeprefix(FREE)] = value
        else:
            section, _, leaf = key.partition(".")
            tables[section][leaf] = None if value == "none" and _may_be_none(section, leaf) else value
    return parse_job(tables)


def _may_be_none(section: str, leaf: str) -> bool:
    field = JobSpec.model_fields.get(section)
    kind = None if field is None else field.annotation
    if not isinstance(kind, type) or not issubclass(kind, Section):
        return False
    return type(None) in get_args(kind.model_fields[leaf].annotation)


def _told(wrong: Sequence[tuple[Mapping[str, Any], FedComputeError]], grid: Grid) -> str:
    """Say which combinations cannot be, and each reason once, at most three."""
    first = {error.message: values for values, error in reversed(wrong)}
    reasons = [f"{describe(values)}: {message}" for message, values in reversed(first.items())]
    lines = [f"{len(wrong)} of {len(grid)} combinations cannot be simulated:", *reasons[:_MOST_REASONS]]
    if any("set rounds.min_updates to" in reason for reason in reasons):
        lines.append("a key with one value, as rounds.min_updates=5, goes for all combinations")
    return "\n".join(lines)
