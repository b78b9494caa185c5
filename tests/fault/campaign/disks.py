"""The disk fills up, fails, turns read-only, loses its power, or changes a byte."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from fed_compute.coordinator.verify import verify_data_dir
from tests.fault.campaign import altered
from tests.fault.campaign.disk import Disk, disk
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground, Job, Session, session
from tests.fault.examination import read_books
from tests.fault.light_client import LightClient

FEW_BYTES = 400_000
MOST_BYTES_ALLOWED = 4_000
LONGEST_WAIT_SECONDS = 15.0
"""Who has anything to send or to ask for does so by then."""
STARVED = Job(target=5, minimum=5, deadline_seconds=600)
"""Its rounds wait for five clients."""


def power_cuts(ground: Ground, count: int, *, synced: bool = True) -> Outcome:
    """The machine loses its power: what was written and not synced is gone, on a real file system."""
    program = () if synced else (altered.__file__, "--unsynced")
    with _on_a_disk("power cut", ground, **({"program": program} if program else {})) as (running, ground_disk):
        for _ in range(count):
            time.sleep(ground.rng.uniform(0.0, 2.0))
            running.until_acknowledged()
            running.server.signal(signal.SIGSTOP)  # a machine without power says nothing any more
            ground_disk.fail()
            running.server.kill()
            ground_disk.repair()
            running.struck("power cut")
            running.start()
    return running.outcome


def full_disks(ground: Ground, count: int) -> Outcome:
    """No room is left, in the middle of an update or of a commit; later there is."""
    with _on_a_disk("disk full", ground) as (running, small_disk):
        for _ in range(count):
            time.sleep(ground.rng.uniform(0.2, 1.0))
            running.until(lambda: _is_told_full(running, small_disk, ground), "an answer 507")
            if ground.rng.random() < 0.3:
                running.server.kill()
                running.struck("killed when full")
                small_disk.empty()
                running.start()
            else:
                _must_live(running)
                running.struck("full")
                small_disk.empty()
            running.goes_on(rounds=1)
    return running.outcome


def _is_told_full(running: Session, small_disk: Disk, ground: Ground) -> bool:
    """Fill the disk until a client is told 507; say False, with room again, if nobody has anything to write."""

    def told() -> int:
        return sum(client.memory.answers[507] for client in running.clients)

    before, until = told(), time.monotonic() + LONGEST_WAIT_SECONDS
    small_disk.fill(leave_bytes=ground.rng.randint(0, FEW_BYTES))
    while told() == before and not running.server.is_closing_a_round() and time.monotonic() < until:
        time.sleep(0.02)
    if told() > before:
        return True
    small_disk.empty()
    running.goes_on(rounds=1)
    return False


def quotas(ground: Ground, count: int) -> Outcome:
    """No file may grow beyond a small size for a while, the log neither, as for one who has used up a quota."""
    with session("quota", ground) as running:
        for _ in range(count):
            running.until_acknowledged()
            with running.server.files_limited(size_bytes=ground.rng.randint(0, MOST_BYTES_ALLOWED)):
                _felt(running, {503, 507})
                _must_live(running)
            running.struck("quota")
            running.goes_on(rounds=1)
    return running.outcome


def read_only_disks(ground: Ground, count: int) -> Outcome:
    """The file system turns read-only under a coordinator that stays up."""
    with _on_a_disk("disk read-only", ground) as (running, bad_disk):
        for _ in range(count):
            _fail(running, bad_disk.turn_read_only, ground)
            bad_disk.repair()
            running.struck("read-only")
            running.start()
            running.goes_on(rounds=1)
    return running.outcome


def failing_disks(ground: Ground, count: int) -> Outcome:
    """The file system answers nothing but EIO, and a coordinator stays up that may think its database malformed."""
    with _on_a_disk("disk errors", ground, tolerated=frozenset({500})) as (running, bad_disk):
        for _ in range(count):
            _fail(running, bad_disk.fail, ground)
            bad_disk.repair()
            running.struck("EIO")
            running.start()
            running.goes_on(rounds=1)
    return running.outcome


def _fail(running: Session, fail: Callable[[], None], ground: Ground) -> None:
    time.sleep(ground.rng.uniform(0.2, 1.0))
    fail()
    _felt(running, {500, 503})
    _must_live(running)
    running.server.kill()  # or the file system could not be taken down


def flipped_updates(ground: Ground, count: int) -> Outcome:
    """A byte of an accepted update changes while nobody looks: it is noticed and named, and nothing is folded."""
    with session("flipped byte", ground, clients=3, job=STARVED, rounds_after=0) as running:
        for _ in range(count):
            running.until(lambda: len(_live_updates(running)) >= 3, "three updates of one round")
            running.server.kill()
            digest = ground.rng.choice(_live_updates(running))
            with _flipped(running, digest, ground):
                running.server.launch()
                running.until(lambda: running.server.readiness() == 503, "the coordinator to say that it is not ready")
                before = running.version()
                late = running.employ(2)
                _must_name(running, digest)
                running.until(lambda: len(_live_updates(running)) >= 5, "five updates of the same round")
                if running.version() != before:
                    running.outcome.broken.append(f"a round was closed over the changed update {digest}")
            running.struck("update")
            running.goes_on(rounds=1)
            for client in late:
                client.stop.set()
    return running.outcome


def flipped_models(ground: Ground, count: int) -> Outcome:
    """A byte of the newest model changes: nobody is given it, nothing is built on it, and it is named."""
    tolerated = frozenset({500})
    with session("flipped byte", ground, clients=0, job=STARVED) as running:
        running.employ(5, tolerated=tolerated)
        for _ in range(count):
            running.goes_on(rounds=1)
            running.server.kill()
            digest = str(read_books(running.server.data_dir).versions[-1].digest)
            with _flipped(running, digest, ground):
                running.start()
                (newcomer,) = running.employ(1, tolerated=tolerated)
                running.until(partial(_was_answered, newcomer, 500), "the refusal to give the changed model")
                newcomer.stop.set()
                _must_name(running, digest)
            running.struck("model")
    return running.outcome


@contextmanager
def _on_a_disk(kind: str, ground: Ground, **server: Any) -> Iterator[tuple[Session, Disk]]:
    with ExitStack() as stack:
        own_disk = stack.enter_context(disk(ground.folder))
        running = stack.enter_context(session(kind, ground, data_dir=own_disk.folder / "data", **server))
        yield running, own_disk


@contextmanager
def _flipped(running: Session, digest: str, ground: Ground) -> Iterator[None]:
    """Change a byte of a blob for as long as the block runs."""
    path = running.server.data_dir / "blobs" / digest[:2] / digest
    sound = path.read_bytes()
    changed = bytearray(sound)
    changed[ground.rng.randrange(len(sound))] ^= ground.rng.randint(1, 255)
    path.write_bytes(changed)
    try:
        yield
    finally:
        path.write_bytes(sound)


def _live_updates(running: Session) -> list[str]:
    books = read_books(running.server.data_dir)
    return [update.digest for update in books.updates if update.round_id not in books.closed_rounds]


def _must_name(running: Session, digest: str) -> None:
    """Look whether the log and `verify` name a changed blob."""
    running.until(lambda: digest in running.server.log(), "the log to name the changed blob")
    if not any(digest in breach for breach in verify_data_dir(running.server.data_dir).breaches):
        running.outcome.broken.append(f"verify does not name the changed blob {digest}")


def _must_live(running: Session) -> None:
    if not running.server.is_alive:
        running.outcome.unexpected.append(f"the process ended: {running.server.last_log_line()}")


def _was_answered(client: LightClient, status: int) -> bool:
    return client.memory.answers[status] > 0


def _felt(running: Session, statuses: set[int]) -> None:
    """Wait until a client, or who asks whether the coordinator is ready, hears that the disk is not as it should be."""

    def heard() -> int:
        return sum(client.memory.answers[status] for client in running.clients for status in statuses)

    before = heard()
    running.until(lambda: heard() > before or running.server.readiness() == 503, f"an answer among {sorted(statuses)}")
