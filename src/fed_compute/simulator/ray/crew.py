"""Hands the groups of a call to the actors of a Ray cluster."""

import hashlib
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from fed_compute.client.datasets import Dataset
from fed_compute.errors import WorkerLost
from fed_compute.protocol.schema import Vector
from fed_compute.simulator.cohort.calls import Call, Task
from fed_compute.simulator.ray.cluster import Actor, Cluster, Ref
from fed_compute.simulator.ray.pieces import Piece, pieces_of, put_back
from fed_compute.simulator.ray.pile import Pile
from fed_compute.simulator.ray.surroundings import check_versions, processor, versions
from fed_compute.simulator.ray.worker import Introduction, PieceTrainer

_PIECES_AHEAD = 2
"""So many pieces has a worker at once: it trains one while the results of the other travel."""
_BASES_KEPT = 4
_FIRST_WORKER_SECONDS = 120.0
_OTHER_WORKERS_SECONDS = 20.0


@dataclass(frozen=True, eq=False)
class _Worker:
    actor: Actor
    node: str


class RayCrew:
    """Actors on the nodes of a Ray cluster, each on one processor, who train what this process hands them.

    Data sets are laid into the object store once and come to each node once, where its actors share them; so does each
    version of the parameters. Results come back as arrays and are written to their places here. Whoever has room gets
    the next piece. What a lost actor had is given to another, and a new one is asked for in its place; it begins when a
    processor is free for it. Nothing of that shows in a result.

    `size` is how many actors there are to be, None for one on each processor of the cluster. It begins with those who
    are there after 20 s, or with the first one if that takes longer; the others join them.

    Raises:
        ClusterUnusable: if the cluster cannot be reached, or runs other versions than this process.
        WorkerLost: if no actor could be started within two minutes.
    """

    def __init__(self, datasets: Sequence[Dataset], *, size: int | None = None, address: str | None = None) -> None:
        self._cluster = Cluster(address, num_cpus=size)
        self._arriving: dict[Ref, Actor] = {}
        self._present: list[_Worker] = []
        self._task: tuple[Task, Ref] | None = None
        self._bases: dict[str, Ref] = {}
        self.clients_by_node: Counter[str] = Counter()
        """How many clients each node has trained."""
        with ExitStack() as undo:
            undo.callback(self.close)
            self._datasets = [self._cluster.put(dataset) for dataset in datasets]
            for _ in range(size or self._cluster.num_cpus):
                self._hire()
            self._gather()
            undo.pop_all()

    def train(self, task: Task, call: Call) -> None:
        """Train all clients of a call, whose data sets are those of this crew and then others.

        Raises:
            WorkerLost: if the cluster was lost, or the same clients lost three workers.
            ClusterUnusable: if a node cannot do what this one can, as where a plug-in is not installed.
        """
        num_workers = len(self._present) + len(self._arriving)
        pile = Pile(pieces_of(call, clients_at_once=task.plan.num_clients, num_workers=num_workers))
        visiting = [self._cluster.put(dataset) for dataset in call.datasets[len(self._datasets) :]]
        given = self._shared_task(task), self._shared_base(call.base)
        at_work: dict[Ref, tuple[_Worker, Piece]] = {}
        while True:
            busy = Counter(worker for worker, _ in at_work.values())
            for worker in self._present * _PIECES_AHEAD:
                if busy[worker] < _PIECES_AHEAD and (piece := pile.take()) is not None:
                    ref = self._cluster.call(worker.actor.train, *given, piece, *visiting)
                    at_work[ref] = worker, piece
                    busy[worker] += 1
            if not at_work and not self._present:
                self._gather()
            elif not at_work:
                return
            self._take_in(call, pile, at_work)

    def close(self) -> None:
        """End the actors and the connection."""
        self._arriving, self._present = {}, []
        self._cluster.close()

    def _take_in(self, call: Call, pile: Pile, at_work: dict[Ref, tuple[_Worker, Piece]]) -> None:
        """Wait for a moment, and take in what has come: a result, or somebody who is ready to work."""
        for ref in self._cluster.done([*at_work, *self._arriving]):
            if ref in self._arriving:
                self._welcome(ref)
                continue
            worker, piece = at_work.pop(ref)
            try:
                put_back(call, piece, *self._cluster.result(ref))
            except WorkerLost as lost:
                pile.put_back(piece, reason=lost.message)
                self._replace(worker)
            else:
                self.clients_by_node[worker.node] += len(piece)

    def _hire(self) -> None:
        actor = self._cluster.hire(PieceTrainer, *self._datasets)
        self._arriving[self._cluster.call(actor.introduce)] = actor

    def _welcome(self, ref: Ref) -> None:
        actor = self._arriving.pop(ref)
        try:
            who: Introduction = self._cluster.result(ref)
        except WorkerLost:
            return self._hire()
        check_versions(who["versions"], versions(), node=who["address"])
        if who["processor"] != processor():
            warnings.warn(
                f"node {who['address']} computes with {who['processor']}, this one with {processor()}: "
                "they may round differently, and the same seed may give other bytes",
                stacklevel=2,
            )
        self._present.append(_Worker(actor, who["node"]))

    def _replace(self, worker: _Worker) -> None:
        if worker in self._present:
            self._present.remove(worker)
            self._cluster.dismiss(worker.actor)
            self._hire()

    def _gather(self) -> None:
        """Wait until there is a first worker, and a little for the others."""
        began = time.monotonic()
        while self._arriving:
            waited = time.monotonic() - began
            if self._present and waited > _OTHER_WORKERS_SECONDS:
                return
            if not self._present and waited > _FIRST_WORKER_SECONDS:
                raise WorkerLost(
                    f"none of {len(self._arriving)} workers could be started on the cluster in {waited:.0f} s; "
                    f"its nodes have {self._cluster.num_cpus} processors, which others may hold: see `ray status`"
                )
            for ref in self._cluster.done(self._arriving):
                self._welcome(ref)

    def _shared_task(self, task: Task) -> Ref:
        if self._task is None or self._task[0] is not task:
            self._task = task, self._cluster.put(task)
        return self._task[1]

    def _shared_base(self, base: Vector) -> Ref:
        """Lay a version of the parameters out, once. Clients of some older versions may still be training."""
        digest = hashlib.sha256(base.data).hexdigest()
        ref = self._bases.pop(digest, None) or self._cluster.put(base)
        kept = list(self._bases.items())[1 - _BASES_KEPT :]
        self._bases = {**dict(kept), digest: ref}
        return ref
