"""Which client has which samples: cut, or drawn from the seed where there are more clients than data to cut.

    iid             everybody's mixture is the same
    dirichlet:A     class shares from Dirichlet(A) (Hsu et al. 2019, arXiv:1909.06335)
    shards:K        K pieces of the data sorted by label (McMahan et al. 2017, arXiv:1602.05629)
    quantity:B      sizes from Dirichlet(B) (Li et al. 2022, arXiv:2102.02079)
    feature:S       Gaussian noise on the features, from none for the first client to S for the last (the same)
    user            one client for each user that the data name

Where a client would get fewer than `LEAST_CUT` samples, or where samples per client are asked for, samples are drawn
with replacement: whatever the split says of one client holds, and clients may share samples.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset
from fed_compute.client.datasets.dataset import HOLDOUT_SEED, holdout_rows, num_held_out
from fed_compute.client.datasets.partition import (
    Rows,
    dirichlet_parts,
    iid_parts,
    quantity_parts,
    shard_parts,
)
from fed_compute.errors import SimulationImpossible
from fed_compute.simulator.cohort import Shard

LEAST_CUT = 4
DEFAULT_DRAWN = 64
"""Samples of a client where nothing else says how many."""
LARGEST_PARAMETER = 1e6
MOST_CLASSES = 12
"""More classes than this are not told apart in a picture."""

_DEFAULTS: dict[str, float | None] = {
    "iid": None,
    "dirichlet": 0.3,
    "shards": 2.0,
    "quantity": 0.5,
    "feature": 0.5,
    "user": None,
}


@dataclass(frozen=True, slots=True)
class Split:
    """A kind of split and its number, written `dirichlet:0.3`."""

    kind: str
    parameter: float | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a split; a kind alone takes its usual number.

        Raises:
            SimulationImpossible: if it is none.
        """
        kind, colon, number = text.partition(":")
        if kind not in _DEFAULTS:
            nearest = difflib.get_close_matches(kind.partition("=")[0], _DEFAULTS, n=1, cutoff=0.5)
            hint = f", did you mean {_usual(nearest[0])!r}?" if nearest else ";"
            known = ", ".join(_usual(name) for name in _DEFAULTS)
            raise SimulationImpossible(f"split {text[:40]!r} is unknown{hint} wanted one of {known}")
        if not colon:
            return cls(kind, _DEFAULTS[kind])
        if _DEFAULTS[kind] is None:
            raise SimulationImpossible(f"split {kind} takes no number, found {text[:40]!r}")
        parameter = _number(number)
        if not 1e-3 <= parameter <= LARGEST_PARAMETER or (kind == "shards" and not parameter.is_integer()):
            wanted = "a whole number from 1" if kind == "shards" else "a number from 0.001"
            raise SimulationImpossible(
                f"split {kind} takes {wanted} to {LARGEST_PARAMETER:.0f}, found {number[:40]!r}; "
                f"usual is {_usual(kind)}"
            )
        return cls(kind, parameter)

    def __str__(self) -> str:
        return self.kind if self.parameter is None else f"{self.kind}:{self.parameter:g}"


def _usual(kind: str) -> str:
    value = _DEFAULTS[kind]
    return kind if value is None else f"{kind}:{value:g}"


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


class Holdings:
    """What each of `count` clients has, by number from 0. The same data, split and seed give the same holdings."""

    def __init__(
        self,
        data: Dataset,
        count: int,
        split: Split,
        *,
        seed: int,
        users: npt.NDArray[np.int64] | None = None,
        samples_per_client: int | None = None,
        holdout_fraction: float | None = None,
    ) -> None:
        """Cut the data, or get ready to draw. `users`, shape (N,), says whose each sample is.

        Each client holds out `holdout_fraction` of its samples, as a real one does; None holds nothing out.

        Raises:
            SimulationImpossible: if the split needs what the data do not have, or a count is below 1.
            DatasetInvalid: if the split needs classes and there are none.
        """
        for what, number in (("clients", count), ("samples_per_client", samples_per_client)):
            if number is not None and number < 1:
                raise SimulationImpossible(f"{what} is {number}, wanted at least 1")
        self._data = data
        self._count = count
        self._split = split
        self._seed = seed
        self._holdout_fraction = holdout_fraction
        self.is_drawn = samples_per_client is not None or (split.kind != "user" and len(data) < LEAST_CUT * count)
        self._size = samples_per_client or DEFAULT_DRAWN
        self._parts = _by_user(users, count) if split.kind == "user" else None
        if not self.is_drawn and self._parts is None:
            self._parts = _cut(data, count, split, seed)
        needs_classes = split.kind in ("dirichlet", "shards")
        self._by_class = _rows_by_class(data, split) if self.is_drawn and needs_classes else []

    def __len__(self) -> int:
        return self._count

    def rows(self, client: int) -> Rows:
        """Return the rows of a client's samples; a drawn one may come twice."""
        if not self.is_drawn:
            return self._parts[client]  # type: ignore[index]
        rng = np.random.default_rng([self._seed, 20, client])
        return np.sort(self._drawn(client, rng))

    def sizes(self, client: int) -> tuple[int, int]:
        """Return how many samples a client trains on, and how many it holds out; of a single one, none."""
        is_level = self.is_drawn and self._split.kind != "quantity"
        return self._parted(self._size if is_level else len(self.rows(client)))

    def training(self, client: int) -> Shard:
        """Return what a client trains on."""
        shard = self.shard(client)
        _, held_out = self._parted(len(shard))
        return shard if held_out == 0 else _part(shard, holdout_rows(len(shard), held_out, seed=HOLDOUT_SEED)[0])

    def held_out(self, client: int) -> Shard | None:
        """Return what a client measures models on and never trains on; None if it holds nothing out."""
        shard = self.shard(client)
        _, held_out = self._parted(len(shard))
        return None if held_out == 0 else _part(shard, holdout_rows(len(shard), held_out, seed=HOLDOUT_SEED)[1])

    def shard(self, client: int) -> Shard:
        """Return all that a client has."""
        rows = self.rows(client)
        if self._split.kind != "feature":
            return Shard(self._data, rows)
        own, rng = self._data.take(rows), np.random.default_rng([self._seed, 21, client])
        level = float(self._split.parameter or 0.0) * client / max(1, self._count - 1)
        noisy = (own.x + level * rng.standard_normal(own.x.shape)).astype(np.float32)
        return Shard.whole(Dataset(noisy, own.y, own.name))

    def table(self, most: int) -> tuple[list[str], npt.NDArray[np.int64]]:
        """Return the classes, and how many samples of each the first `most` clients have, shape (clients, classes).

        Where there are no classes, or more than twelve, all samples count as one.
        """
        labels = self._data.y
        names = np.unique(labels) if labels.ndim == 1 and labels.dtype.kind in "biu" else np.empty(0)
        rows = [self.rows(client) for client in range(min(self._count, most))]
        if not 0 < len(names) <= MOST_CLASSES:
            return ["samples"], np.array([[len(own)] for own in rows], dtype=np.int64)
        counts = [np.bincount(np.searchsorted(names, labels[own]), minlength=len(names)) for own in rows]
        return [str(name) for name in names], np.array(counts, dtype=np.int64)

    def _parted(self, count: int) -> tuple[int, int]:
        held_out = 0 if self._holdout_fraction is None or count < 2 else num_held_out(count, self._holdout_fraction)
        return count - held_out, held_out

    def _drawn(self, client: int, rng: np.random.Generator) -> Rows:
        match self._split.kind:
            case "dirichlet":
                alpha = float(self._split.parameter or 1.0)
                shares = rng.dirichlet(np.full(len(self._by_class), alpha))
                return _draw(self._by_class, rng.multinomial(self._size, shares), rng)
            case "shards":
                pieces = min(int(self._split.parameter or 1), len(self._by_class))
                chosen = rng.choice(len(self._by_class), pieces, replace=False)
                sizes = np.zeros(len(self._by_class), dtype=int)
                sizes[chosen] = np.diff(np.linspace(0, self._size, pieces + 1).astype(int))
                return _draw(self._by_class, sizes, rng)
            case "quantity":
                size = max(
                    1,
                    round(
                        self._size
                        * rng.gamma(float(self._split.parameter or 1.0))
                        / float(self._split.parameter or 1.0)
                    ),
                )
                return rng.integers(len(self._data), size=size)
            case "user":
                parts = self._parts or []
                return rng.choice(parts[client], self._size)
        return rng.integers(len(self._data), size=self._size)


def _part(shard: Shard, places: Rows) -> Shard:
    return Shard(shard.dataset, shard.rows[places])


def _cut(data: Dataset, count: int, split: Split, seed: int) -> list[Rows]:
    parameter = split.parameter or 0.0
    cuts: dict[str, Callable[[], list[Rows]]] = {
        "iid": lambda: iid_parts(len(data), count, seed=seed),
        "feature": lambda: iid_parts(len(data), count, seed=seed),
        "dirichlet": lambda: dirichlet_parts(data.y, count, alpha=parameter, seed=seed),
        "shards": lambda: shard_parts(data.y, count, shards=int(parameter), seed=seed),
        "quantity": lambda: quantity_parts(len(data), count, beta=parameter, seed=seed),
    }
    return cuts[split.kind]()


def _by_user(users: npt.NDArray[np.int64] | None, count: int) -> list[Rows]:
    if users is None:
        raise SimulationImpossible("split user needs data that name the user of each sample: an array `user` in an NPZ")
    names = np.unique(users)
    if len(names) < count:
        raise SimulationImpossible(f"the data name {len(names)} users, split user has no more clients, found {count}")
    return [np.flatnonzero(users == name) for name in names[:count]]


def _rows_by_class(data: Dataset, split: Split) -> list[Rows]:
    if data.y.ndim != 1 or data.y.dtype.kind not in "biu":
        raise SimulationImpossible(f"split {split} needs one class per sample; these data have targets, use iid")
    return [np.flatnonzero(data.y == label) for label in np.unique(data.y)]


def _draw(groups: list[Rows], sizes: npt.NDArray[np.int64], rng: np.random.Generator) -> Rows:
    return np.concatenate([rng.choice(rows, size) for rows, size in zip(groups, sizes, strict=True)])
