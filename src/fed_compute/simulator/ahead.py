"""Makes updates in cohorts: those that arrive now, and with them those that will arrive next from the same base."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fed_compute.client.finishing import LeftBehind
from fed_compute.coordinator.folding import control_in
from fed_compute.coordinator.recipes import schema_of
from fed_compute.coordinator.wiring import Coordinator
from fed_compute.ids import JobId
from fed_compute.learning.vectors import Vector
from fed_compute.protocol.models import decode_model
from fed_compute.rounds.records import Job, TaskState
from fed_compute.simulator.timeline import Piece, Shift, Timeline
from fed_compute.simulator.training import Made, Order, Workshop

AHEAD_BYTES = 256 << 20
"""So many bytes of updates are made ahead of their arrival at most, with what they leave behind."""
_EMPTY = Made(b"", LeftBehind())


@dataclass(frozen=True, slots=True, eq=False)
class _InTheMaking:
    """Updates from one base, and what they are of; the next one last."""

    pieces: list[Piece]
    updates: Iterator[Made | None]

    def take(self) -> tuple[Piece, Made | None]:
        """Make the next one."""
        return self.pieces.pop(), next(self.updates)


class Ahead:
    """Keeps the updates that were begun and have not arrived yet."""

    def __init__(self, core: Coordinator, timeline: Timeline, workshop: Workshop) -> None:
        self._core = core
        self._timeline = timeline
        self._workshop = workshop
        self._making: list[_InTheMaking] = []
        self._begun: set[Piece] = set()
        self._made: dict[Piece, Made | None] = {}

    def update(self, shift: Shift) -> Made | None:
        """Return the update of a shift, once it is made: empty if it was not begun, None if its training diverged."""
        piece = shift.piece
        while piece in self._begun:
            self._make_next()
        return self._made.get(piece, _EMPTY)

    def forget(self, piece: Piece) -> None:
        """Throw an update away."""
        self._begun.discard(piece)
        self._made.pop(piece, None)

    def settle(self, shift: Shift) -> None:
        """Let the client of a shift remember what its update left behind: it was accepted."""
        if (made := self.update(shift)) is not None:
            self._workshop.keep(shift.client, made.left)

    def begin(self, shifts: Sequence[Shift], *, job: JobId, most: int) -> None:
        """Begin the updates of these shifts that somebody waits for, and those that are likely next.

        `most` is how many updates the round can still take: more are not made.
        """
        missing = self._awaited([shift for shift in shifts if not self._is_known(shift.piece)])
        for base_version in sorted({piece.base_version for piece in missing}):
            group = [piece for piece in missing if piece.base_version == base_version]
            room = min(most, self._most_held) - len(group)
            self._begin(group + self._next_ones(base_version, max(0, room)), base_version, job=job)

    def begin_first(self, pieces: Sequence[Piece], *, job: JobId) -> None:
        """Begin what a new round is likely to get first, all from one version, as much of it as may be held.

        A piece for which nobody gets a lease is to be forgotten.
        """
        if group := pieces[: self._most_held]:
            self._begin(group, group[0].base_version, job=job)

    @property
    def _most_held(self) -> int:
        return max(1, AHEAD_BYTES // self._workshop.held_bytes)

    def _begin(self, group: Sequence[Piece], base_version: int, *, job: JobId) -> None:
        found, base, control = self._base(job, base_version)
        orders = self._orders(found, group)
        self._making.append(_InTheMaking(list(group[::-1]), self._workshop.make(base, orders, control=control)))
        self._begun.update(group)

    def _make_next(self) -> None:
        """Make the next of the updates that were begun; keep it if somebody still wants it."""
        piece, made = self._making[0].take()
        if not self._making[0].pieces:
            del self._making[0]  # and with it what was trained
        if piece in self._begun:
            self._begun.remove(piece)
            self._made[piece] = made

    def _is_known(self, piece: Piece) -> bool:
        return piece in self._begun or piece in self._made

    def _awaited(self, shifts: Sequence[Shift]) -> list[Piece]:
        """Return what those train whose lease is still live."""
        with self._core.store.snapshot() as records:
            tasks = records.bulk.tasks([shift.task.task_id for shift in shifts])
        return [shift.piece for shift in shifts if tasks[shift.task.task_id].state is TaskState.LEASED]

    def _next_ones(self, base_version: int, count: int) -> list[Piece]:
        """Return what those train who are next to arrive with updates of the same base."""
        pieces = (shift.piece for shift in self._timeline.later_arrivals())
        waiting = (piece for piece in pieces if piece.base_version == base_version and not self._is_known(piece))
        return list(islice(waiting, count))

    def _base(self, job_id: JobId, number: int) -> tuple[Job, Vector, Vector | None]:
        """Return the job, the parameters of one of its versions, and the control variate beside them, None for zero."""
        with self._core.store.snapshot() as records:
            job, version = records.jobs.get(job_id), records.versions.get(job_id, number)
        state = None if version.optimizer_digest is None else self._core.models.get(version.optimizer_digest)
        parameters = decode_model(self._core.models.get(version.digest), schema_of(job))
        return job, parameters, control_in(state, job)

    def _orders(self, job: Job, group: Sequence[Piece]) -> list[Order]:
        limits = {round_id: self._core.limits.of(job, round_id) for round_id in {piece.round_id for piece in group}}
        return [
            Order(
                piece.client,
                piece.client_id,
                piece.round_number,
                limits[piece.round_id].max_norm,
                limits[piece.round_id].max_num_samples,
            )
            for piece in group
        ]
