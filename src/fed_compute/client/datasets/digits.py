"""The digits that scikit-learn ships: 1797 real handwritten digits of 8×8 pixels (UCI, Alpaydin and Kaynak 1998)."""

from collections.abc import Mapping

import numpy as np

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.errors import ExtraMissing


def load_digits(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Return x, shape (1797, 64), scaled from 0..16 to 0..1, and the digits 0 to 9.

    Raises:
        ExtraMissing: if scikit-learn is not installed.
    """
    try:
        from sklearn import datasets  # slow to import, and an extra
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the data set digits", extra="client") from error
    x, y = datasets.load_digits(return_X_y=True)
    return RawSamples((x / 16.0).astype(np.float32), y.astype(np.int64))
