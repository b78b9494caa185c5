"""A connection to a Ray cluster: quiet, and lost in a way that can be told."""

import logging
import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from fed_compute.errors import ClusterUnusable, ExtraMissing, WorkerLost

# Ray reads these when it is imported. It prints what happens to any node to standard output, where a document may be.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "^")

try:
    import ray
    from ray.exceptions import ActorDiedError, ObjectStoreFullError, OutOfDiskError, RayError, RayTaskError
except ImportError as error:
    raise ExtraMissing(what="engine ray", extra="ray") from error

Ref = Any
"""Stands for a value that lies in the cluster's object store, or will."""
Actor = Any

_AUTO, _LOCAL = "auto", "local"
_LOOK_SECONDS = 2.0
_CONNECT_SECONDS = 5.0
_LOST_SECONDS = 20.0
_LONGEST_WORDS = 400
_PORTS = "host:port takes the port of `ray start --head`, mostly 6379, ray://host:port that for clients, mostly 10001"


class Cluster:
    """A Ray cluster as the driver sees it. Whoever is connected already stays so; else `close` ends what was begun.

    Without an address it is the one that `RAY_ADDRESS` names, or one of this machine alone, started with `num_cpus`
    processors, None for all.

    Raises:
        ClusterUnusable: if it cannot be reached, or runs another Ray or Python.
    """

    def __init__(self, address: str | None, *, num_cpus: int | None) -> None:
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _connect(address or os.environ.get("RAY_ADDRESS") or _LOCAL, num_cpus)
        elif address is not None:
            raise ClusterUnusable(
                f"this process is connected to a Ray cluster already; leave address {address!r} out, "
                "or call ray.shutdown() first"
            )
        is_remote = ray.util.client.ray.is_connected()  # then the way to the control service is not ours
        self._control = None if is_remote else ray.get_runtime_context().gcs_address
        self._looked_at = time.monotonic()
        self._makers: dict[type, Any] = {}
        self._actors: set[Actor] = set()
        self._is_lost = False

    @property
    def num_cpus(self) -> int:
        """How many processors the nodes have that are there now, at least 1."""
        with self._reporting():
            return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def put(self, value: object) -> Ref:
        """Lay a value into the object store: once, however many calls it is given to."""
        with self._reporting():
            return ray.put(value)

    def hire(self, kind: type, *values: Ref) -> Actor:
        """Let an actor be started on the node with most room, with one processor, when there is one."""
        with self._reporting():
            if kind not in self._makers:
                self._makers[kind] = ray.remote(
                    num_cpus=1, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
                )(kind)
            actor = self._makers[kind].remote(*values)
        self._actors.add(actor)
        return actor

    def call(self, method: Any, *values: object) -> Ref:
        """Let an actor do something after what it does already, and return what stands for the result."""
        with self._reporting(now=False):
            return method.remote(*values)

    def dismiss(self, actor: Actor) -> None:
        """End an actor at once, whatever it does."""
        self._actors.discard(actor)
        with self._reporting():
            ray.kill(actor)

    def done(self, refs: Iterable[Ref]) -> list[Ref]:
        """Wait for a moment and return those that are done, if any is.

        Raises:
            WorkerLost: if the cluster is lost.
        """
        with self._reporting(now=time.monotonic() - self._looked_at > _LOOK_SECONDS):
            first, others = ray.wait(list(refs), num_returns=1, timeout=_LOOK_SECONDS)
            if not first or not others:
                return first
            return [*first, *ray.wait(others, num_returns=len(others), timeout=0)[0]]

    def result(self, ref: Ref) -> Any:
        """Return the value; arrays lie in memory that other processes map too, and must not be written.

        Raises:
            WorkerLost: if the actor, its node or the value is lost; another actor may do better. Or the cluster is.
            ClusterUnusable: if the actor could not start, or its work raised an error; it would again.
        """
        with self._reporting(now=False):
            try:
                return ray.get(ref)
            except RayError as error:
                starts_not = isinstance(error, ActorDiedError) and error.actor_init_failed
                if isinstance(error, RayTaskError) or starts_not:
                    raise ClusterUnusable(
                        f"work failed on the cluster: {_last_words(error)}; is the same installed on each node as here?"
                    ) from error
                raise WorkerLost(_last_words(error)) from error

    def close(self) -> None:
        """End the actors and what else was started for this connection. Closing again does nothing."""
        if self._is_ours:
            ray.shutdown()  # which ends them too
        elif not self._is_lost:
            for actor in list(self._actors):
                self.dismiss(actor)

    @contextmanager
    def _reporting(self, *, now: bool = True) -> Iterator[None]:
        """Turn what Ray raises where the cluster is lost into WorkerLost, and where it is full into ClusterUnusable.

        Where its control service is lost, Ray waits for a minute and then ends the process; so it is looked for before.
        """
        try:
            if self._control is not None and now:
                _await_answer(self._control)
                self._looked_at = time.monotonic()
            yield
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise ClusterUnusable(
                f"the cluster's object store has no room: {_last_words(error)}; "
                "start its nodes with a larger --object-store-memory"
            ) from error
        except (RayError, ConnectionError) as error:
            self._is_lost = True
            raise WorkerLost(
                f"the Ray cluster is lost: {_last_words(error)}; this round's results are lost; "
                "see how the cluster is with `ray status`, then run again"
            ) from error


def _last_words(error: BaseException) -> str:
    """Return the last line of what Ray says; what stands before it is a traceback of somewhere else."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:_LONGEST_WORDS] if lines else type(error).__name__


def _connect(address: str, num_cpus: int | None) -> None:
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    own: dict[str, Any] = {"num_cpus": num_cpus, "include_dashboard": False} if address == _LOCAL else {}
    if address not in (_AUTO, _LOCAL) and not _answers(address.removeprefix("ray://")):
        raise ClusterUnusable(f"nothing answers at {address!r}; is the cluster started? {_PORTS}")
    try:
        with warnings.catch_warnings(action="ignore"):
            ray.init(address, log_to_driver=False, configure_logging=False, **own)
    except (RayError, RuntimeError, ValueError, OSError) as error:
        hint = "" if own else f"; {_PORTS}"
        raise ClusterUnusable(f"there is no Ray at {address!r}: {_last_words(error)}{hint}") from error


def _await_answer(address: str) -> None:
    """Wait until somebody answers; a control service that is set up to survive is back within seconds.

    Raises:
        ConnectionError: if nobody does.
    """
    until = time.monotonic() + _LOST_SECONDS
    while not _answers(address):
        if time.monotonic() > until:
            raise ConnectionError(f"nothing has answered at {address} for {_LOST_SECONDS:.0f} s")
        time.sleep(_LOOK_SECONDS)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError):  # ValueError, OverflowError: no port
        return False
    return True
