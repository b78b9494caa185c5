"""What virtual clients remember from one accepted update to the next: on the disk, and only of those who took part."""

import os
import tempfile
import weakref

import numpy as np

from fed_compute.client.finishing import LeftBehind
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from fed_compute.learning.vectors import Vector

_NOTHING = -1


class Keepsakes:
    """Residuals and control variates of the clients of one job, by number.

    Disk: 4 bytes a parameter for each client that has something of a kind, in nameless files in the folder for
    temporary files. They are gone with this object or its process. Memory: 8 bytes a client.
    """

    def __init__(self, count: int, *, num_parameters: int) -> None:
        self._residuals = _Shelf(count, num_parameters)
        self._controls = _Shelf(count, num_parameters)

    def residual(self, client: int) -> Residual:
        """Return what a client's last accepted update left out; nothing before the first.

        Raises:
            StateUnusable: if it cannot be read.
        """
        return Residual(self._residuals.get(client))

    def control(self, client: int) -> Vector:
        """Return a client's own control variate, float32 (P,); zeros before its first accepted update.

        Raises:
            StateUnusable: if it cannot be read.
        """
        return self._controls.get(client)

    def keep(self, client: int, left: LeftBehind) -> None:
        """Remember what an accepted update left behind.

        Raises:
            StateUnusable: if it cannot be written.
        """
        if left.residual is not None:
            self._residuals.put(client, left.residual.unsent)
        if left.control is not None:
            self._controls.put(client, left.control)


class _Shelf:
    """One vector for each of `count` clients, zeros until it is put there. A client's place is given at its first."""

    def __init__(self, count: int, num_parameters: int) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 (it lives as long as this object)
        weakref.finalize(self, self._file.close)
        self._places = np.full(count, _NOTHING, dtype=np.int32)
        self._num_taken = 0
        self._num_parameters = num_parameters

    def get(self, client: int) -> Vector:
        place = int(self._places[client])
        vector = np.zeros(self._num_parameters, dtype=np.float32)
        if place == _NOTHING:
            return vector
        try:
            found = os.preadv(self._file.fileno(), [vector.data.cast("B")], place * vector.nbytes)
        except OSError as error:
            raise self._unusable("read", error) from error
        if found != vector.nbytes:
            raise self._unusable("read", f"{found} of {vector.nbytes} bytes are there")
        return vector

    def put(self, client: int, vector: Vector) -> None:
        place = int(self._places[client])
        if place == _NOTHING:
            place, self._num_taken = self._num_taken, self._num_taken + 1
        content = np.ascontiguousarray(vector, dtype=np.float32).data.cast("B")
        try:
            written = os.pwrite(self._file.fileno(), content, place * len(content))
        except OSError as error:
            raise self._unusable("written", error) from error
        if written != len(content):
            raise self._unusable("written", f"{written} of {len(content)} bytes fitted")
        self._places[client] = place

    def _unusable(self, what: str, why: object) -> StateUnusable:
        return StateUnusable(
            f"what virtual clients remember cannot be {what} in {tempfile.gettempdir()}: {why}; free some space there, "
            "or name another folder in TMPDIR"
        )
