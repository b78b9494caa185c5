"""The data of a simulation: what the clients share out, and what nobody trains on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets import Dataset, RawSamples, holdout_sizes, load_dataset, parse_spec
from fed_compute.client.datasets.dataset import settle
from fed_compute.errors import SimulationImpossible

Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any]] | tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]
HOLDOUT_FRACTION = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A data set in two disjoint parts. `users`, shape (N,), says whose each training sample is, if that is known.

    `spec` is how the data are written on the command line; None for arrays.
    """

    training: Dataset
    held_out: Dataset
    users: npt.NDArray[np.int64] | None
    spec: str | None


def load_samples(data: str | Arrays | Dataset, *, holdout_fraction: float = HOLDOUT_FRACTION) -> Samples:
    """Load data by specification (`digits`, `npz:PATH`, …), or take arrays (x, y) or (x, y, users).

    The held-out part is the same for every seed.

    Raises:
        DatasetInvalid, DatasetMissing: if the data cannot be had or used.
        SimulationImpossible: if `users` are not one name for each sample.
    """
    spec, users = None, None
    if isinstance(data, Dataset):
        whole = data
    elif isinstance(data, str):
        spec, whole, users = data, load_dataset(data), _users_in(data)
    else:
        whole, users = settle(RawSamples(np.asarray(data[0]), np.asarray(data[1])), "arrays"), _third(data)
    if users is not None and users.shape != (len(whole),):
        raise SimulationImpossible(f"users have shape {users.shape}, wanted one for each of {len(whole)} samples")
    _, held_out = holdout_sizes(whole, holdout_fraction)
    order = np.random.default_rng(0).permutation(len(whole))
    train, test = np.sort(order[held_out:]), np.sort(order[:held_out])
    return Samples(whole.take(train), whole.take(test), None if users is None else users[train], spec)


def _third(data: Arrays) -> npt.NDArray[np.int64] | None:
    return None if len(data) == 2 else _numbered(np.asarray(data[2]))


def _users_in(spec: str) -> npt.NDArray[np.int64] | None:
    parsed = parse_spec(spec)
    if parsed.source != "npz" or parsed.path is None or parsed.part != (1, 1):
        return None
    with np.load(Path(parsed.path).expanduser(), allow_pickle=False) as archive:
        return _numbered(archive["user"]) if "user" in archive.files else None


def _numbered(users: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return users as whole numbers from 0, by the order of their names."""
    return np.unique(users, return_inverse=True)[1].astype(np.int64)
