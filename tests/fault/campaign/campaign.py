"""Kinds of faults in turn, a batch of each at a time, until each was done as often as it should."""

import random
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from tests.fault.campaign.kinds import Kind
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.progress import Bars
from tests.fault.campaign.session import Ground

BATCHES_A_SEED = 100_000


@dataclass(frozen=True)
class Batch:
    """A few trials on one data folder. The seed is told if they find something, and repeats them."""

    kind: Kind
    count: int
    seed: int


def batches(wanted: Mapping[Kind, int], *, seed: int) -> Iterator[Batch]:
    """Yield the batches of all kinds, the kind first that is furthest behind."""
    done: Counter[Kind] = Counter()
    number = seed * BATCHES_A_SEED
    while behind := [kind for kind, count in wanted.items() if done[kind] < count]:
        kind = min(behind, key=lambda kind: Fraction(done[kind], wanted[kind]))
        number += 1
        batch = Batch(kind, min(kind.batch, wanted[kind] - done[kind]), number)
        done[kind] += batch.count
        yield batch


class Campaign:
    """Runs trials and keeps what came of them."""

    def __init__(self, wanted: Mapping[Kind, int], *, seed: int, place: Path, bars: Bars, warm: bool = False) -> None:
        self.outcomes = {kind: Outcome(kind.name) for kind in wanted}
        self._batches = list(batches(wanted, seed=seed))
        self._place = place
        self._warm = warm
        self._bars = bars
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def run(self, *, minutes: float = float("inf"), workers: int = 1) -> None:
        """Run all batches, so many at a time; none is begun after `minutes`."""

        def work(batch: Batch) -> None:
            if time.monotonic() - self._began < minutes * 60:
                self._run(batch)

        with ThreadPoolExecutor(workers) as pool:
            for done in [pool.submit(work, batch) for batch in self._batches]:
                done.result()

    def _run(self, batch: Batch) -> None:
        """Run a batch in a folder of its own, which stays if something is found."""
        kind, began = batch.kind, time.monotonic()
        folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-{batch.seed}-", dir=self._place))
        seen = Outcome(kind.name)

        def watch(outcome: Outcome) -> None:
            nonlocal seen
            seen = outcome
            self._bars.move(kind.name, self.outcomes[kind].trials + outcome.trials)

        try:
            outcome = kind.run(Ground(folder, random.Random(batch.seed), watch, self._warm), batch.count)
        except AssertionError as failure:  # a session that could not go on
            outcome = seen
            outcome.trials = max(1, outcome.trials)
            outcome.unexpected.append(str(failure))
        if outcome.is_sound:
            shutil.rmtree(folder)
        else:
            self._bars.tell("\n    ".join([f"{kind.name}, seed {batch.seed}: see {folder}", *outcome.complaints()]))
        self._take_in(kind, outcome, seconds=time.monotonic() - began)

    def _take_in(self, kind: Kind, outcome: Outcome, *, seconds: float) -> None:
        with self._lock:
            self.outcomes[kind].add(outcome)
            minutes = (time.monotonic() - self._began) / 60
            self._bars.tell(
                f"{minutes:6.1f} min  {kind.name}: {outcome.trials} more in {seconds:.0f} s, "
                f"{self.outcomes[kind].trials} so far, {self.outcomes[kind].acknowledged} acknowledged"
            )
