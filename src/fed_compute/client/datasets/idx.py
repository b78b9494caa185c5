"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747) from IDX files, gzipped or not."""

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.errors import DatasetInvalid, DatasetMissing

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package `dataset-fashion-mnist` puts the files."""

_SUBSETS: Mapping[str, tuple[str, ...]] = {"train": ("train",), "test": ("t10k",), "all": ("train", "t10k")}
_MAX_BYTES = 1 << 30


def load_fashion_mnist(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Read pictures as x, shape (N, 1, 28, 28), uint8, and the classes 0 to 9.

    `subset` is `train` (60 000 pictures, the default), `test` (10 000) or `all`.

    Raises:
        DatasetMissing: if a file is not there, saying how to get it.
        DatasetInvalid: if a file is not a complete IDX file of bytes.
    """
    folder = DEBIAN_FOLDER if path is None else Path(path).expanduser()
    subset = options.get("subset", "train")
    if subset not in _SUBSETS:
        raise DatasetInvalid(f"subset={subset[:40]} is unknown; wanted {', '.join(_SUBSETS)}")
    images = [read_idx(_find(folder, f"{part}-images-idx3-ubyte"), dimensions=3) for part in _SUBSETS[subset]]
    labels = [read_idx(_find(folder, f"{part}-labels-idx1-ubyte"), dimensions=1) for part in _SUBSETS[subset]]
    return RawSamples(np.concatenate(images)[:, None, :, :], np.concatenate(labels).astype(np.int64))


def read_idx(file: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read one IDX file of unsigned bytes with the given number of dimensions.

    Raises:
        DatasetInvalid: if the header or the length is not what such a file has.
    """
    try:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
            content = stream.read(_MAX_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetInvalid(f"{file} cannot be read: {error}") from error
    magic, start = bytes([0, 0, 8, dimensions]), 4 + 4 * dimensions
    if content[:4] != magic or len(content) < start:
        raise DatasetInvalid(f"{file} starts with {content[:4].hex()}, an IDX file of bytes with {magic.hex()}")
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions))
    wanted = start + int(np.prod(shape, dtype=np.uint64))
    if len(content) != wanted:
        raise DatasetInvalid(f"{file} has {len(content)} bytes, shape {list(shape)} needs {wanted}")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            return file
    raise DatasetMissing(
        f"looked for {name} or {name}.gz in {folder}; install Debian's package dataset-fashion-mnist, or put the four "
        "IDX files of Fashion-MNIST into a folder and write fashion-mnist:FOLDER",
        path=str(folder / name),
    )
