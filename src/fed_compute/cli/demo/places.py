"""Where a demonstration keeps its files.

demo-report/            the last run's report
├── curves.png
├── model.safetensors
├── summary.json
└── run-1/              one run: the coordinator's data folder, and beside it
    ├── job.toml
    ├── clients/        each client's credential
    └── logs/           what each process said
"""

from dataclasses import dataclass
from pathlib import Path

from fed_compute.coordinator.data_dir import DATABASE
from fed_compute.errors import DataDirTaken, SettingInvalid


@dataclass(frozen=True, slots=True)
class Places:
    """The folders of one run. `data_dir` is the coordinator's own."""

    report_dir: Path
    data_dir: Path

    @property
    def job_file(self) -> Path:
        """The served job."""
        return self.data_dir / "job.toml"

    @property
    def curves(self) -> Path:
        """The picture of the training."""
        return self.report_dir / "curves.png"

    @property
    def model(self) -> Path:
        """The final model."""
        return self.report_dir / "model.safetensors"

    @property
    def summary(self) -> Path:
        """The figures, as JSON."""
        return self.report_dir / "summary.json"

    def log_of(self, name: str) -> Path:
        """Return where a process writes."""
        return self.data_dir / "logs" / f"{name}.log"

    def state_of(self, client: str) -> Path:
        """Return where a client keeps its credential."""
        return self.data_dir / "clients" / client


def prepare(report_dir: Path, data_dir: Path | None) -> Places:
    """Make the folders of a new run. Without `data_dir` the run gets a fresh folder in the report folder.

    Raises:
        DataDirTaken: if the data folder holds something already.
        SettingInvalid: if a folder cannot be made or written.
    """
    _make(report_dir, "--report-dir")
    if data_dir is None:
        data_dir = report_dir / f"run-{_next_number(report_dir)}"
    if data_dir.is_dir() and any(data_dir.iterdir()):
        raise DataDirTaken(str(data_dir), holds_run=(data_dir / DATABASE).exists())
    places = Places(report_dir, data_dir)
    for folder in (data_dir, places.log_of("any").parent, places.state_of("any").parent):
        _make(folder, "--data-dir")
    return places


def _make(folder: Path, option: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SettingInvalid(f"{option}: {folder} cannot be written ({error.strerror or error})") from error


def _next_number(report_dir: Path) -> int:
    taken = [path.name.removeprefix("run-") for path in report_dir.glob("run-*")]
    return max((int(text) for text in taken if text.isdecimal()), default=0) + 1
