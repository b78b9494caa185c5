"""Kinds of faults in turn, a batch of each at a time, until each was done as often as it should."""

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.fault.campaign.kinds import Kind
from tests.fault.campaign.outcome import Outcome
from tests.fault.campaign.session import Ground

BATCHES_A_SEED = 100_000


class Campaign:
    """Runs trials and keeps what came of them. Each batch has a seed of its own, which is told if it finds something."""

    def __init__(self, wanted: Mapping[Kind, int], *, seed: int, place: Path, tell: Callable[[str], None]) -> None:
        self.outcomes = {kind: Outcome(kind.name) for kind in wanted}
        self._wanted = wanted
        self._seed = seed * BATCHES_A_SEED
        self._place = place
        self._tell = tell

    def run(self, *, minutes: float = float("inf")) -> None:
        """Run until every kind has had its trials, or so much time is over that no further batch is begun."""
        began = time.monotonic()
        while (kind := self._furthest_behind()) is not None and time.monotonic() - began < minutes * 60:
            self._seed += 1
            so_far, wanted = self.outcomes[kind], self._wanted[kind]
            so_far.add(self._batch(kind, min(kind.batch, wanted - so_far.trials)))
            spent = (time.monotonic() - began) / 60
            self._tell(
                f"{spent:6.1f} min  {kind.name}: {so_far.trials} of {wanted}, {so_far.acknowledged} acknowledged"
            )

    def _furthest_behind(self) -> Kind | None:
        shares = {kind: self.outcomes[kind].trials / wanted for kind, wanted in self._wanted.items() if wanted}
        kind = min(shares, key=lambda kind: shares[kind], default=None)
        return None if kind is None or shares[kind] >= 1 else kind

    def _batch(self, kind: Kind, count: int) -> Outcome:
        """Run a few trials in a folder of their own, which stays if they found something."""
        folder = Path(tempfile.mkdtemp(prefix=f"{kind.name}-{self._seed}-", dir=self._place))
        seen = [Outcome(kind.name)]
        try:
            outcome = kind.run(Ground(folder, random.Random(self._seed), seen.append), count)
        except AssertionError as failure:  # a session that could not go on
            outcome = seen[-1]
            outcome.trials = max(1, outcome.trials)
            outcome.unexpected.append(str(failure))
        if outcome.is_sound:
            shutil.rmtree(folder)
        else:
            lines = [f"{kind.name}, seed {self._seed}: see {folder}", *outcome.complaints()]
            self._tell("\n    ".join(lines))
        return outcome
