"""Every client's traits, drawn from the seed: a million of them in some tens of megabytes."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fed_compute.client.behavior import DAY_SECONDS, Behavior, is_on, seconds_until_on
from fed_compute.errors import SimulationImpossible
from fed_compute.ids import ClientId
from fed_compute.simulator.attacks import Attack
from fed_compute.simulator.population.description import DeviceSection, FleetSpec

Places = npt.NDArray[np.intp]
"""Shape (k,): clients by number, from 0."""

HONEST = -1
COPIES_OF_MODEL = 4
"""Parameters, gradient, optimiser and update."""
_HOUR = 3600.0


class Population:
    """The clients of a fleet by number. What is drawn depends on the fleet, the count and the seed alone.

    Memory: 30 bytes a client, and the names.
    """

    def __init__(self, fleet: FleetSpec, count: int, *, seed: int, began_at: float, model_bytes: int = 0) -> None:
        """Draw `count` clients who are all there at `began_at`, Unix seconds.

        Raises:
            SimulationImpossible: if no machine of the fleet has the memory for a model of `model_bytes`.
        """
        rng = np.random.default_rng([seed, 10])
        self._devices: Sequence[DeviceSection] = fleet.device
        self._attacks = [attacker.make() for attacker in fleet.attacker]
        self._kind = _shuffled(_counts([one.share for one in fleet.device], count), rng)
        lying = _counts([one.share for one in fleet.attacker], count, whole=False)
        self._lie = _shuffled([count - sum(lying), *lying], rng).astype(np.int16) - 1
        spread = np.array([one.speed_spread for one in fleet.device])[self._kind]
        self._slowness = (spread ** rng.random(count)).astype(np.float32)
        hours = [one.availability for one in fleet.device]
        self._fraction = np.array([one.fraction for one in hours], dtype=np.float32)[self._kind]
        middle = np.array([one.peak_hour for one in hours])[self._kind]
        spread_hours = np.array([one.spread_hours for one in hours])[self._kind]
        middle = (middle + spread_hours * rng.standard_normal(count)) * _HOUR
        self._starts_at = (middle - self._fraction * DAY_SECONDS / 2).astype(np.float32)
        self._leaves_at = began_at + _days_until_gone([one.churn_per_day for one in fleet.device], self._kind, rng)
        fits = np.array([one.memory_mib * 2**20 >= COPIES_OF_MODEL * model_bytes for one in fleet.device])
        if not fits.any():
            raise SimulationImpossible(
                f"no device of fleet {fleet.name!r} has the memory for {COPIES_OF_MODEL} copies of a model of "
                f"{model_bytes / 2**20:.1f} MiB; raise memory_mib"
            )
        self._fits = fits[self._kind]
        self.names = [ClientId(f"{fleet.device[kind].name}-{number:07d}") for number, kind in enumerate(self._kind)]

    def __len__(self) -> int:
        return len(self._kind)

    def device(self, client: int) -> DeviceSection:
        """Return the class of a client's machine."""
        return self._devices[int(self._kind[client])]

    def behavior(self, client: int) -> Behavior:
        """Return how a client behaves."""
        return self.device(client).behavior(speed_factor=float(self._slowness[client]))

    def attack(self, client: int) -> Attack | None:
        """Return how a client lies, None for an honest one."""
        lie = int(self._lie[client])
        return None if lie == HONEST else self._attacks[lie]

    @property
    def num_attackers(self) -> int:
        """How many clients lie."""
        return int(np.count_nonzero(self._lie != HONEST))

    def counts(self) -> dict[str, int]:
        """Return how many machines of each class there are."""
        counts = np.bincount(self._kind, minlength=len(self._devices))
        return {device.name: int(count) for device, count in zip(self._devices, counts, strict=True)}

    def are_there(self, clients: Places, now: float) -> npt.NDArray[np.bool_]:
        """Say which of these clients could take a task at `now`: able, not gone for good, and on, shape (k,)."""
        on = is_on(
            now, self._starts_at[clients].astype(np.float64), fraction=self._fraction[clients].astype(np.float64)
        )
        there: npt.NDArray[np.bool_] = on & (now < self._leaves_at[clients]) & self._fits[clients]
        return there

    def seconds_until_anyone(self, clients: Places, now: float) -> float | None:
        """Return in how many seconds the first of these clients is there, None if nobody will ever be."""
        waits = seconds_until_on(
            now, self._starts_at[clients].astype(np.float64), fraction=self._fraction[clients].astype(np.float64)
        )
        waits = waits[(now + waits < self._leaves_at[clients]) & self._fits[clients]]
        return float(waits.min()) if len(waits) else None


def _counts(shares: Sequence[float], total: int, *, whole: bool = True) -> list[int]:
    """Return how many of `total` each share is; rounding is settled by the largest remainders if they are a whole."""
    exact = np.array(shares, dtype=np.float64) * total
    counts = np.floor(exact + 1e-9).astype(int)
    missing = total - counts.sum() if whole else round(float(exact.sum())) - counts.sum()
    for place in np.argsort(counts - exact, kind="stable")[: max(0, int(missing))]:
        counts[place] += 1
    return [int(count) for count in counts]


def _shuffled(counts: Sequence[int], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return so many of each number from 0 on, in random order."""
    return rng.permutation(np.repeat(np.arange(len(counts), dtype=np.uint8), counts))


def _days_until_gone(
    churn_per_day: Sequence[float], kind: npt.NDArray[np.uint8], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return when each client leaves for good, in seconds from the start: memoryless, never where nobody leaves."""
    rates = -np.log1p(-np.array(churn_per_day))[kind]  # per day
    with np.errstate(divide="ignore"):
        seconds: npt.NDArray[np.float64] = rng.standard_exponential(len(kind)) * DAY_SECONDS / rates
    return seconds
