"""The result of a simulation, and the folder that it is written into."""

import csv
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fed_compute.errors import SimulationImpossible
from fed_compute.ids import Digest
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.digests import sha256_hex
from fed_compute.protocol.job import JobSpec
from fed_compute.protocol.models import encode_model
from fed_compute.protocol.schema import ParameterSchema
from fed_compute.simulator.history import COLUMNS, FEDERATED_COLUMNS, Point, Quality, RoundRow, curve_of
from fed_compute.simulator.population import FleetSpec
from fed_compute.simulator.splits import Holdings, Split

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE, ROWS, TABLE, JOB, FLEET, MODEL, SUMMARY = (
    "report.html",
    "rounds.csv",
    "rounds.parquet",
    "job.toml",
    "fleet.toml",
    "model.safetensors",
    "summary.json",
)


@dataclass(frozen=True, slots=True)
class Setup:
    """What was simulated, everything resolved. `data` is None for arrays, which no command line can name.

    `measure_every` is after how many rounds the model was measured on held-out samples, `plan` the path that trained
    the clients, as `stacked:10`.

    Raises:
        SimulationImpossible: if `measure_every` is less than 1.
    """

    job: JobSpec
    fleet: FleetSpec
    num_clients: int
    split: Split
    seed: int
    samples_per_client: int | None
    data: str | None
    measure_every: int = 1
    plan: str | None = None

    def __post_init__(self) -> None:
        if self.measure_every < 1:
            raise SimulationImpossible(
                f"measure_every is {self.measure_every}, wanted a whole number from 1: the rounds from one measurement "
                "on held-out samples to the next"
            )

    def command(self, folder: Path | None = None) -> str:
        """Return the command that does the same again; with `folder`, from the files that a report left there."""
        job = JOB if folder is None else str(folder / JOB)
        fleet = FLEET if folder is None else str(folder / FLEET)
        words = ["fed-compute", "simulate", job, "--clients", str(self.num_clients)]
        words += ["--data", self.data if self.data is not None else "YOUR-ARRAYS.npz"]
        words += ["--behavior", fleet, "--split", str(self.split), "--seed", str(self.seed)]
        if self.samples_per_client is not None:
            words += ["--samples-per-client", str(self.samples_per_client)]
        if self.measure_every != 1:
            words += ["--measure-every", str(self.measure_every)]
        if self.plan is not None:
            words += ["--plan", self.plan]
        return shlex.join(words)


@dataclass(frozen=True, eq=False)
class Report:
    """How a simulation went. In a notebook it shows itself.

    `rounds` has a row for each ended round, `first` is the model before training, `model` the parameters at the end,
    float32 (P,), in the order of `schema`. `refusals` counts refused updates by error code, `devices` the machines of
    each class.
    """

    setup: Setup
    rounds: tuple[RoundRow, ...]
    first: Quality
    refusals: dict[str, int]
    devices: dict[str, int]
    num_attackers: int
    holdings: Holdings
    model: Vector
    schema: ParameterSchema

    @property
    def accuracy(self) -> float | None:
        """The share of held-out samples that the last model gets right; None where there are no classes."""
        return self.curve[-1].quality.accuracy

    @property
    def loss(self) -> float:
        """The loss of the last model on held-out samples."""
        return self.curve[-1].quality.loss

    @property
    def curve(self) -> tuple[Point, ...]:
        """The models that were measured on held-out samples, from the one before training to the last."""
        return curve_of(self.first, self.rounds)

    @property
    def measured(self) -> RoundRow | None:
        """The last round whose version clients measured on data of their own; None if there is none."""
        return next((row for row in reversed(self.rounds) if row.federated_clients), None)

    @property
    def model_digest(self) -> Digest:
        """The SHA-256 of the last model's file: equal for equal simulations."""
        return sha256_hex(encode_model(self.model, self.schema))

    def summary(self) -> dict[str, Any]:
        """Return the most important numbers as plain data."""
        rows, setup, measured = self.rounds, self.setup, self.measured
        return {
            "job": setup.job.name,
            "fleet": setup.fleet.name,
            "clients": setup.num_clients,
            "attackers": self.num_attackers,
            "data": setup.data,
            "split": str(setup.split),
            "seed": setup.seed,
            "measure_every": setup.measure_every,
            "plan": setup.plan,
            "rounds_closed": sum(row.state == "closed" for row in rows),
            "rounds_abandoned": sum(row.state == "abandoned" for row in rows),
            "accuracy": self.accuracy,
            "loss": self.loss,
            **{name: None if measured is None else getattr(measured, name) for name in FEDERATED_COLUMNS},
            "virtual_seconds": rows[-1].ended_seconds if rows else 0.0,
            "updates": sum(row.num_updates for row in rows),
            "leases": sum(row.num_leases for row in rows),
            "vanished": sum(row.num_vanished for row in rows),
            "late": sum(row.num_late for row in rows),
            "stopped": sum(row.num_stopped for row in rows),
            "refused": dict(sorted(self.refusals.items())),
            "contributors": rows[-1].num_contributors if rows else 0,
            "bytes_up": sum(row.bytes_up for row in rows),
            "bytes_down": sum(row.bytes_down for row in rows),
            "model_digest": self.model_digest,
        }

    def csv(self) -> str:
        """Return the rows as CSV, with a header."""
        text = StringIO(newline="")
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row.to_json() for row in self.rounds)
        return text.getvalue()

    def html(self) -> str:
        """Return the page: one file that needs no other and asks nobody for anything."""
        from fed_compute.simulator.report.page import write_page

        return write_page(self)

    def _repr_html_(self) -> str:
        from fed_compute.simulator.report.page import write_page

        return write_page(self, embedded=True)

    def plot(self) -> "Figure":
        """Return accuracy and loss as a matplotlib figure, over rounds and over virtual time.

        Raises:
            ExtraMissing: if matplotlib is not installed.
        """
        from fed_compute.simulator.report.figure import draw_figure

        return draw_figure(self)

    def plot_split(self) -> "Figure":
        """Return who had what as a matplotlib figure: samples of each class, for the first clients.

        Raises:
            ExtraMissing: if matplotlib is not installed.
        """
        from fed_compute.simulator.report.figure import split_figure

        setup = self.setup
        return split_figure(
            self.holdings, title=f"{setup.job.name}, split {setup.split}: {setup.num_clients:,} clients"
        )

    def save(self, folder: str | Path) -> Path:
        """Write page, rows, job, fleet, model and summary into a folder, which is made, and return it.

        Rows are written as Parquet too where pyarrow is installed. Files of an earlier report are replaced.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        (target / PAGE).write_text(self.html(), encoding="utf-8")
        (target / ROWS).write_text(self.csv(), encoding="utf-8")
        (target / JOB).write_text(_toml(self.setup.job.model_dump(exclude_none=True)), encoding="utf-8")
        (target / FLEET).write_text(_toml(self.setup.fleet.model_dump(exclude_none=True)), encoding="utf-8")
        (target / MODEL).write_bytes(encode_model(self.model, self.schema))
        (target / SUMMARY).write_text(json.dumps(self.summary(), indent=2) + "\n", encoding="utf-8")
        write_parquet([row.to_json() for row in self.rounds], target / TABLE)
        return target


def _toml(data: dict[str, Any]) -> str:
    return tomli_w.dumps(data)


def write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as Parquet where pyarrow is installed."""
    try:
        import pyarrow  # an extra
        from pyarrow import parquet
    except ModuleNotFoundError:
        return
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
