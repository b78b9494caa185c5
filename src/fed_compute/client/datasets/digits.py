"""Real data that scikit-learn ships: handwritten digits (UCI, Alpaydin and Kaynak 1998) and tumours (Wolberg 1995)."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.errors import DatasetInvalid, DatasetMissing, ExtraMissing


def load_digits(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Return x, shape (1797, 64), scaled from 0..16 to 0..1, and the digits 0 to 9.

    Only the file is read: importing scikit-learn takes nearly as long as importing PyTorch.

    Raises:
        ExtraMissing: if scikit-learn is not installed.
        DatasetMissing: if this scikit-learn does not hold the file.
    """
    table = np.loadtxt(_shipped("digits", "digits.csv.gz"), delimiter=",")  # each line: 64 pixels, then the digit
    return RawSamples((table[:, :-1] / 16.0).astype(np.float32), table[:, -1].astype(np.int64))


def load_breast_cancer(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Return x, shape (569, 30), and the classes 0 (malignant) and 1 (benign): measured cell nuclei.

    Each feature is shifted and scaled to mean 0 and deviation 1 over the whole set. With `features=20` only the means
    and standard errors of the ten measures are kept, and their largest values left out.

    Raises:
        DatasetInvalid: if `features` is neither 20 nor 30.
        ExtraMissing: if scikit-learn is not installed.
        DatasetMissing: if this scikit-learn does not hold the file.
    """
    wanted = options.get("features", "30")
    if wanted not in ("20", "30"):
        raise DatasetInvalid(f"features={wanted[:40]} is not usable; wanted 20 or 30")
    table = np.loadtxt(_shipped("breast-cancer", "breast_cancer.csv"), delimiter=",", skiprows=1)
    x = table[:, : int(wanted)]
    return RawSamples(((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), table[:, -1].astype(np.int64))


def _shipped(name: str, file_name: str) -> Path:
    library = find_spec("sklearn")
    if library is None or library.origin is None:
        raise ExtraMissing(what=f"the data set {name}", extra="client")
    file = Path(library.origin).parent / "datasets" / "data" / file_name
    if not file.is_file():
        raise DatasetMissing(
            f"scikit-learn is here without its {name}, looked for {file}; install scikit-learn anew", path=str(file)
        )
    return file
