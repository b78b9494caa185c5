"""What becomes of the bodies of updates once their round has ended."""

from typing import Protocol

from fed_compute.ids import Digest, RoundId
from fed_compute.rounds.records import Round, Update
from fed_compute.storage.blobs import BlobStore


class Bodies(Protocol):
    """Keeps the books of them."""

    def note(self, update: Update) -> None:
        """Take note of an accepted update."""
        ...

    def let_go(self, live: Round | None) -> None:
        """Let go of what no round needs but perhaps the one that is live now."""
        ...


class EndedAreRemoved:
    """Nobody reads them again, and the updates of the next rounds need their memory."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs
        self._of_round: dict[RoundId, list[Digest]] = {}

    def note(self, update: Update) -> None:
        self._of_round.setdefault(update.round_id, []).append(update.digest)

    def let_go(self, live: Round | None) -> None:
        for ended in [one for one in self._of_round if live is None or one != live.round_id]:
            for digest in self._of_round.pop(ended):
                self._blobs.remove(digest)


class AllAreKept:
    """For whoever verifies the versions that were made of them."""

    def note(self, update: Update) -> None:
        pass

    def let_go(self, live: Round | None) -> None:
        pass
