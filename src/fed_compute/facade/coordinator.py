"""A coordinator inside a Python program or notebook."""

import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fed_compute.coordinator import wiring
from fed_compute.coordinator.invites import Terms
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.settings import load_settings
from fed_compute.errors import NotRunning
from fed_compute.facade.logs import keep_quiet
from fed_compute.protocol.architectures import BUILT_IN
from fed_compute.protocol.job import JobSpec, job_given
from fed_compute.protocol.models import decode_model, encode_model
from fed_compute.rounds.records import OVER_JOB_STATES
from fed_compute.server.serve import serve_in_background

_ACTOR = "python"
"""Who acts, as the journal tells it."""

_LOOK_AGAIN_SECONDS = 1.0
"""A wait looks this often although nothing was heard: another replica may have done it."""


class Coordinator:
    """Runs a coordinator, HTTP server included, on threads of this process.

        with Coordinator("runs/digits") as coordinator:
            coordinator.create_job("examples/digits.toml")
            print("join with: fed-compute join", coordinator.url)
            coordinator.wait()
            weights = coordinator.model()

    It is the coordinator that `fed-compute serve` starts: what it acknowledged outlives a crash, and a later one on
    the same folder goes on where this one stopped.
    """

    def __init__(
        self, data_dir: str | Path | None = None, *, host: str = "127.0.0.1", port: int = 0, **settings: Any
    ) -> None:
        """Check the settings; nothing is opened yet.

        Args:
            data_dir: folder for database, models, updates and keys, made if missing. Without one, a temporary folder
                that is removed at the end, with all that was trained.
            host: address to listen on.
            port: TCP port; 0 takes a free one.
            settings: any other setting of the coordinator by its name, such as `registration="invite"`. One that is
                not given comes from the environment, else from its default.

        Raises:
            SettingInvalid: if a setting does not exist or cannot be used.
        """
        self._settings = load_settings(
            data_dir=None if data_dir is None else Path(data_dir), host=host, port=port, **settings
        )
        self._is_temporary = data_dir is None
        self._open = ExitStack()
        self._core: wiring.Coordinator | None = None
        self._url = ""

    def start(self) -> Self:
        """Open the data folder, take up what an earlier coordinator left, and serve. `close` ends it.

        Raises:
            DataDirInUse, DataDirUnusable: if the data folder cannot be had.
            PortInUse: if another program listens on the port.
            Broken: if the server does not start.
        """
        if self._core is not None:
            return self
        keep_quiet()
        with ExitStack() as undo:
            settings = self._settings
            if self._is_temporary:
                folder = undo.enter_context(tempfile.TemporaryDirectory(prefix="fed-compute-"))
                settings = settings.model_copy(update={"data_dir": Path(folder)})
            core = wiring.open_coordinator(settings)
            undo.callback(core.close)
            self._url = undo.enter_context(serve_in_background(core))
            self._open, self._core = undo.pop_all(), core
        return self

    def close(self) -> None:
        """Stop serving, let open requests end, and give the data folder back. Closing twice is fine."""
        self._core = None
        self._open.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The address that clients on this machine join.

        Raises:
            NotRunning: if it was not started, or was closed.
        """
        self._running()
        return self._url

    @property
    def operator_key(self) -> str:
        """The key for the acts of an operator, by HTTP or on the dashboard. Keep it secret.

        Raises:
            NotRunning: if it was not started, or was closed.
        """
        return self._running().data_dir.operator_key.read_text(encoding="utf-8").strip()

    def create_job(self, job: str | Path | JobSpec | Mapping[str, Any]) -> str:
        """Add a job and return its name. The same job twice is one job.

        A model that this process registered, or an installed package brings, is built here to make its first version;
        that needs PyTorch. Built-in models do not.

        Args:
            job: the path of a job file, or what is in one: a `JobSpec`, or the tables as dictionaries.

        Raises:
            JobFileInvalid: naming the key that is wrong.
            JobExists: if another job has the name.
            ModelUnknown, ModelMismatch: if the model cannot be built.
            NotRunning: if the coordinator was not started, or was closed.
        """
        core = self._running()
        spec = job_given(job)
        if spec.model.name in BUILT_IN:
            return core.jobs.create(spec).name
        # PyTorch, which a coordinator does without
        from fed_compute.client.models.conversion import start_of_plugin

        schema, vector = start_of_plugin(spec.model.name, spec.model.args, seed=spec.seed)
        return core.jobs.create(spec, schema=schema, first_model=encode_model(vector, schema)).name

    def invite(self, *, uses: int = 1) -> str:
        """Return a new invitation for so many clients, good for seven days."""
        return self._running().invites.create(Terms(uses=uses), by=_ACTOR).text

    def wait(self, job: str | None = None, *, timeout_seconds: float | None = None) -> str:
        """Return `finished` or `stopped` when a job is over; without a name, the default job.

        Raises:
            JobNotFound: if there is no such job.
            TimeoutError: if it is not over after so many seconds. It goes on.
            NotRunning: if the coordinator was not started, or was closed.
        """
        core, end = self._running(), None if timeout_seconds is None else time.monotonic() + timeout_seconds
        rings = core.bell.rings()
        while (found := core.jobs.named(job)).state not in OVER_JOB_STATES:
            left = _LOOK_AGAIN_SECONDS if end is None else end - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"job {found.name!r} is still {found.state} after {timeout_seconds} s")
            rings = core.bell.wait(rings, timeout_seconds=min(left, _LOOK_AGAIN_SECONDS))
        return found.state.value

    def pause(self, job: str) -> None:
        """Hand out no more work of a job until `resume`; what is in progress may still come. Twice changes nothing.

        Raises:
            JobNotFound: if there is no such job.
            JobOver: if it is over.
        """
        self._running().steering.pause(job, by=_ACTOR)

    def resume(self, job: str) -> None:
        """Go on with a paused job; its round has as much time left as it had. Raises as `pause`."""
        self._running().steering.resume(job, by=_ACTOR)

    def stop(self, job: str) -> None:
        """End a job for good; its versions stay. Raises as `pause`."""
        self._running().steering.stop(job, by=_ACTOR)

    def rounds(self, job: str | None = None) -> list[dict[str, Any]]:
        """Return what happened in each round of a job, oldest first: the records of `GET /metrics`.

        Among the keys: `round_id`, `state`, `updates_accepted`, `train_loss`, `accuracy` (0 to 1 or None), `clients`.

        Raises:
            JobNotFound: if there is no such job.
            NotRunning: if the coordinator was not started, or was closed.
        """
        core = self._running()
        job_id = core.jobs.named(job).job_id
        return [round_.summary() for round_ in core.metrics.rounds() if round_.job_id == job_id]

    def model(self, job: str | None = None, version: str = "latest") -> dict[str, npt.NDArray[np.float32]]:
        """Return a version's parameters by name, in the order of the module's `state_dict`, as float32 arrays.

        `{name: torch.from_numpy(array) for name, array in model().items()}` fits `load_state_dict`.

        Raises:
            JobNotFound, VersionNotFound: if there is no such job or version.
            NotRunning: if the coordinator was not started, or was closed.
        """
        core = self._running()
        found = core.jobs.named(job)
        schema = schema_of(found)
        return schema.split(decode_model(core.models.get(core.jobs.version(found, version).digest), schema))

    def _running(self) -> wiring.Coordinator:
        if self._core is None:
            raise NotRunning("coordinator")
        return self._core
