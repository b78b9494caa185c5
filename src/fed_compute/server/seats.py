"""How many updates arrive at one moment: so many of one client, so many in all. Held in this process alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from fed_compute.errors import TooManyUploads, UploadsFull
from fed_compute.ids import ClientId


class Seats:
    """Places for updates that arrive. For use on the event loop only."""

    def __init__(self, *, per_client: int, in_all: int) -> None:
        self._per_client = per_client
        self._in_all = in_all
        self._taken = 0
        self._of_client: Counter[ClientId] = Counter()

    @property
    def num_taken(self) -> int:
        """How many updates are arriving. May be asked from any thread."""
        return self._taken

    @contextmanager
    def taken(self, client_id: ClientId | None) -> Iterator[None]:
        """Hold a place while the block runs; None is somebody whose key is in the body that is still to come.

        Raises:
            TooManyUploads: if the client has all the places that one may have.
            UploadsFull: if all places are taken.
        """
        if client_id is not None and self._of_client[client_id] >= self._per_client:
            raise TooManyUploads(limit=self._per_client)
        if self._taken >= self._in_all:
            raise UploadsFull(limit=self._in_all)
        self._taken += 1
        if client_id is not None:
            self._of_client[client_id] += 1
        try:
            yield
        finally:
            self._taken -= 1
            if client_id is not None:
                self._of_client[client_id] -= 1
                self._of_client += Counter()  # forget those at zero
