"""The rules once more, slow and plain, in float64 on whole matrices, each straight from its paper."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


def distances(x: Rows) -> Rows:
    """Distances of all pairs, without any Gram matrix."""
    return np.array([np.linalg.norm(x - row, axis=1) for row in x])


def median(x: Rows) -> Rows:
    """The median of each column."""
    return np.median(x, axis=0)


def trimmed_mean(x: Rows, f: int) -> Rows:
    """The mean of each column without its f largest and f smallest values (Yin et al. 2018)."""
    return np.sort(x, axis=0)[f : len(x) - f].mean(axis=0)


def krum_order(x: Rows, f: int) -> npt.NDArray[np.intp]:
    """Updates by the sum of squared distances to their n-f-2 nearest others (Blanchard et al. 2017)."""
    others = np.sort(distances(x) ** 2, axis=1)[:, 1:]
    return np.argsort(others[:, : len(x) - f - 2].sum(axis=1), kind="stable")


def krum(x: Rows, f: int) -> Rows:
    """The first of them."""
    return x[krum_order(x, f)[0]]


def multi_krum(x: Rows, f: int) -> Rows:
    """The mean of the first n-f."""
    return x[krum_order(x, f)[: len(x) - f]].mean(axis=0)


def geometric_median(x: Rows, *, iterations: int, smoothing: float) -> Rows:
    """Smoothed Weiszfeld from the origin (Pillutla et al. 2022)."""
    z = np.zeros(x.shape[1])
    for _ in range(iterations):
        pull = 1 / np.maximum(np.linalg.norm(x - z, axis=1), smoothing)
        z = (x * pull[:, None]).sum(axis=0) / pull.sum()
    return z


def centered_clipping(x: Rows, *, center: Rows, radius: float, iterations: int) -> Rows:
    """Clipped steps from the center (Karimireddy et al. 2021)."""
    v = center.astype(np.float64)
    for _ in range(iterations):
        away = x - v
        lengths = np.linalg.norm(away, axis=1)
        v = v + (away * np.minimum(1, radius / np.maximum(lengths, 1e-30))[:, None]).mean(axis=0)
    return v


def clip_to_median(x: Rows) -> Rows:
    """Every row at most as long as the median one."""
    lengths = np.linalg.norm(x, axis=1)
    return x * np.minimum(1, np.median(lengths) / np.maximum(lengths, 1e-30))[:, None]


def nearest_neighbor_mixing(x: Rows, f: int) -> Rows:
    """Each row replaced by the mean of its n-f nearest, itself included (Allouah et al. 2023)."""
    nearest = np.argsort(distances(x), axis=1, kind="stable")[:, : len(x) - f]
    return np.array([x[rows].mean(axis=0) for rows in nearest])


def fltrust(x: Rows, root: int) -> Rows:
    """Cosines to the root, cut at 0, as weights of rows brought to the root's length (Cao et al. 2021)."""
    lengths = np.linalg.norm(x, axis=1)
    trust = np.maximum(0, x @ x[root] / (lengths * lengths[root]))
    return (x * (trust / lengths)[:, None]).sum(axis=0) * lengths[root] / trust.sum()


def weighted_nearest_neighbor_mixing(x: Rows, weights: Rows, f: int) -> Rows:
    """The same where rows count differently: the nearest that hold (n-f)/n of the weight, the last one in part."""
    quota, mixed = weights.sum() * (len(x) - f) / len(x), []
    for row in distances(x):
        left, total = quota, np.zeros(x.shape[1])
        for j in np.argsort(row, kind="stable"):
            part = min(left, weights[j])
            total, left = total + part * x[j], left - part
        mixed.append(total / quota)
    return np.array(mixed)


def weighted_krum(x: Rows, weights: Rows, f: int) -> Rows:
    """Krum where rows count differently: the nearest others that hold (n-f-2)/n of the weight."""
    n, scores = len(x), []
    for i, row in enumerate(distances(x) ** 2):
        left, score = weights.sum() * (n - f - 2) / n, 0.0
        for j in (j for j in np.argsort(row, kind="stable") if j != i):
            part = min(left, weights[j])
            score, left = score + part * row[j], left - part
        scores.append(score)
    return x[int(np.argmin(scores))]
