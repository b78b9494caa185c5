"""Cutting one data set into disjoint parts, the same on every machine that knows the seed.

Three rules: `iid` shuffles and cuts evenly; `dirichlet` gives each part its own mixture of classes
(Hsu et al. 2019, arXiv:1909.06335): for each class, the shares of the parts are drawn from
Dirichlet(alpha), and a small alpha means very different parts; `sorted` sorts by label and cuts evenly,
so that a part knows one or two classes and nothing of the others, the hardest case there is.

`dirichlet` leaves no part too small to train and test on: afterwards, while a part has fewer than
min(10, N // parts) samples, it gets one from the part that is largest at that moment.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fed_compute.errors import DatasetInvalid

Rows = npt.NDArray[np.intp]
SMALLEST_PART = 10


def iid_parts(count: int, parts: int, *, seed: int) -> list[Rows]:
    """Return the rows of each part, ascending; sizes differ by at most one.

    Raises:
        DatasetInvalid: if there are fewer samples than parts.
    """
    _check_count(count, parts)
    order = np.random.Generator(np.random.PCG64(seed)).permutation(count)
    return [np.sort(rows) for rows in np.array_split(order, parts)]


def dirichlet_parts(labels: npt.NDArray[Any], parts: int, *, alpha: float, seed: int) -> list[Rows]:
    """Return the rows of each part, ascending, with class shares drawn from Dirichlet(alpha).

    Raises:
        DatasetInvalid: if there are fewer samples than parts, or the labels are not whole-number classes.
    """
    _check_count(len(labels), parts)
    if labels.ndim != 1 or labels.dtype.kind not in "biu":
        raise DatasetInvalid(
            f"split=dirichlet needs one whole-number class per sample, found labels of type {labels.dtype} "
            f"and shape {labels.shape}; use split=iid"
        )
    stream = np.random.Generator(np.random.PCG64(seed))
    groups: list[list[int]] = [[] for _ in range(parts)]
    for label in np.unique(labels):
        rows = stream.permutation(np.flatnonzero(labels == label))
        shares = stream.dirichlet(np.full(parts, alpha))
        cuts = (np.cumsum(shares)[:-1] * len(rows)).round().astype(int)
        for group, piece in zip(groups, np.split(rows, cuts), strict=True):
            group.extend(piece.tolist())
    _top_up(groups, smallest=min(SMALLEST_PART, len(labels) // parts))
    return [np.sort(np.array(group, dtype=np.intp)) for group in groups]


def sorted_parts(labels: npt.NDArray[Any], parts: int, *, seed: int) -> list[Rows]:
    """Return the rows of each part, ascending: neighbours in the order of labels, and of chance among equal labels.

    Sizes differ by at most one.

    Raises:
        DatasetInvalid: if there are fewer samples than parts, or a sample has more than one label.
    """
    _check_count(len(labels), parts)
    if labels.ndim != 1:
        raise DatasetInvalid(f"split=sorted needs one label per sample, found shape {labels.shape}; use split=iid")
    shuffled = np.random.Generator(np.random.PCG64(seed)).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    return [np.sort(rows) for rows in np.array_split(order, parts)]


def shard_parts(labels: npt.NDArray[Any], parts: int, *, shards: int, seed: int) -> list[Rows]:
    """Return the rows of each part, ascending: `shards` pieces of the data sorted by label (McMahan et al. 2017).

    Pieces differ by at most one in size; who gets which is chance. With one piece it is `sorted_parts`.

    Raises:
        DatasetInvalid: if there are fewer samples than pieces, or a sample has more than one label.
    """
    pieces = sorted_parts(labels, parts * shards, seed=seed)
    order = np.random.Generator(np.random.PCG64([seed, 1])).permutation(len(pieces))
    return [
        np.sort(np.concatenate([pieces[place] for place in order[part * shards : (part + 1) * shards]]))
        for part in range(parts)
    ]


def quantity_parts(count: int, parts: int, *, beta: float, seed: int) -> list[Rows]:
    """Return the rows of each part, ascending: sizes from Dirichlet(beta), mixtures alike (Li et al. 2022).

    No part is left with fewer than min(10, N // parts) samples.

    Raises:
        DatasetInvalid: if there are fewer samples than parts.
    """
    _check_count(count, parts)
    stream = np.random.Generator(np.random.PCG64(seed))
    order, shares = stream.permutation(count), stream.dirichlet(np.full(parts, beta))
    cuts = (np.cumsum(shares)[:-1] * count).round().astype(int)
    groups = [piece.tolist() for piece in np.split(order, cuts)]
    _top_up(groups, smallest=min(SMALLEST_PART, count // parts))
    return [np.sort(np.array(group, dtype=np.intp)) for group in groups]


def _check_count(count: int, parts: int) -> None:
    if count < parts:
        raise DatasetInvalid(f"{count} samples cannot be cut into {parts} parts; no part may be empty")


def _top_up(groups: list[list[int]], *, smallest: int) -> None:
    """Move samples, in place, from the largest group to the groups below `smallest`, in order."""
    for group in groups:
        while len(group) < smallest:
            group.append(max(groups, key=len).pop())
