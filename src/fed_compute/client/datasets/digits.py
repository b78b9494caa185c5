"""The digits that scikit-learn ships: 1797 real handwritten digits of 8×8 pixels (UCI, Alpaydin and Kaynak 1998)."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.errors import DatasetMissing, ExtraMissing


def load_digits(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Return x, shape (1797, 64), scaled from 0..16 to 0..1, and the digits 0 to 9.

    Only the file is read: importing scikit-learn takes nearly as long as importing PyTorch.

    Raises:
        ExtraMissing: if scikit-learn is not installed.
        DatasetMissing: if this scikit-learn does not hold the file.
    """
    library = find_spec("sklearn")
    if library is None or library.origin is None:
        raise ExtraMissing(what="the data set digits", extra="client")
    file = Path(library.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if not file.is_file():
        raise DatasetMissing(
            f"scikit-learn is here without its digits, looked for {file}; install scikit-learn anew", path=str(file)
        )
    table = np.loadtxt(file, delimiter=",")  # each line: 64 pixels, then the digit
    return RawSamples((table[:, :-1] / 16.0).astype(np.float32), table[:, -1].astype(np.int64))
