"""What a client's work remembers from one task to the next, and through a crash."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from fed_compute.client.checkpoints import Checkpointer
from fed_compute.client.observer import ClientObserver
from fed_compute.client.own_folder import OwnFolder
from fed_compute.client.sealed_files import TornFile, read_sealed, write_sealed
from fed_compute.clock import Clock
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from fed_compute.learning.vectors import Vector

_LITTLE_ENDIAN = np.dtype("<f4")


class WorkMemory:
    """Residuals and control variates by job, and the checkpoint of the training under way, in a client's own folder."""

    def __init__(
        self, folder: OwnFolder, clock: Clock, observer: ClientObserver, *, checkpoint_seconds: float = 0.0
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._observer = observer
        self._checkpoint_seconds = checkpoint_seconds

    def residual(self, job: str, *, schema_digest: str, num_parameters: int) -> Residual:
        """Return what the job's last accepted update left out; nothing if there is none, or the model is another one.

        Raises:
            StateUnusable: if it is there and cannot be read.
        """
        file = self._folder.unsent / job
        found = self._vector(file, job, schema_digest=schema_digest, lost="residual_lost")
        return Residual.initial(num_parameters) if found is None else Residual(found)

    def keep_residual(self, job: str, residual: Residual, *, schema_digest: str) -> None:
        """Remember what an accepted update left out. It is on the disk when this returns.

        Raises:
            StateUnusable: if it cannot be written.
        """
        _keep(self._folder.unsent / job, residual.unsent, schema_digest=schema_digest)

    def own_control(self, job: str, *, schema_digest: str, num_parameters: int) -> Vector:
        """Return the job's own control variate, float32 (P,); zeros if there is none, or the model is another one.

        Raises:
            StateUnusable: if it is there and cannot be read.
        """
        file = self._folder.controls / job
        found = self._vector(file, job, schema_digest=schema_digest, lost="control_lost")
        return np.zeros(num_parameters, dtype=np.float32) if found is None else found

    def keep_own_control(self, job: str, control: Vector, *, schema_digest: str) -> None:
        """Remember the control variate that follows from an accepted update. It is on the disk when this returns.

        Raises:
            StateUnusable: if it cannot be written.
        """
        _keep(self._folder.controls / job, control, schema_digest=schema_digest)

    def checkpointer(self, plan: str) -> Checkpointer:
        """Return what keeps the state of the training that follows from `plan`."""
        return Checkpointer(
            self._folder.checkpoint, plan=plan, clock=self._clock, observer=self._observer,
            every_seconds=self._checkpoint_seconds,
        )  # fmt: skip

    def forget_training(self) -> None:
        """Drop the checkpoint: its task is over, or what came of it is kept elsewhere."""
        with suppress(OSError):  # what cannot be removed is of no later plan, so nobody will go on from it
            self._folder.checkpoint.unlink(missing_ok=True)

    def _vector(self, file: Path, job: str, *, schema_digest: str, lost: str) -> Vector | None:
        try:
            found = read_sealed(file)
        except FileNotFoundError:
            return None
        except TornFile as error:
            self._observer.event(lost, job=job, why=str(error))
            return None
        except OSError as error:
            raise StateUnusable(f"what earlier updates left behind, {file}, cannot be read: {error}") from error
        return unpacked(found.parts[0]) if found.head["schema_digest"] == schema_digest else None


def _keep(file: Path, vector: Vector, *, schema_digest: str) -> None:
    try:
        write_sealed(file, {"schema_digest": schema_digest}, [packed(vector)], durable=True)
    except OSError as error:
        raise StateUnusable(f"what an update left behind cannot be kept in {file}: {error}; free some space") from error


def packed(vector: Vector) -> memoryview:
    """Return a vector as bytes: float32, little-endian."""
    return np.ascontiguousarray(vector, dtype=_LITTLE_ENDIAN).data.cast("B")


def unpacked(content: memoryview) -> Vector:
    """Return the values, float32 (P,), that `packed` wrote."""
    return np.frombuffer(content, dtype=_LITTLE_ENDIAN).astype(np.float32)
