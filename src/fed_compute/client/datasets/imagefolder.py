"""A folder of pictures, one sub-folder per class."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.client.datasets.files import existing
from fed_compute.errors import DatasetInvalid, ExtraMissing

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
_SIZE = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")


def load_imagefolder(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Read pictures as x, shape (N, C, H, W), uint8, and the class of each, shape (N,).

    Classes are the sub-folders in the order of their names, so every client needs the same
    sub-folders, empty ones included. `size=WxH` scales every picture; without it all must have one
    size. `gray=1` makes C = 1, else C = 3.

    Raises:
        DatasetMissing: if the folder is not there.
        DatasetInvalid: if it holds no pictures, one cannot be read, or sizes differ.
        ExtraMissing: if pillow is not installed.
    """
    folder = existing(path, kind="folder")
    size, gray = _size(options.get("size")), _gray(options.get("gray", "0"))
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    files = [(file, label) for label, kind in enumerate(classes) for file in _pictures(kind)]
    if not files:
        raise DatasetInvalid(
            f"{folder} has {len(classes)} sub-folder(s) and no pictures in them; wanted {folder}/CLASS/PICTURE.png"
        )
    images = [_read(file, size=size, gray=gray) for file, _ in files]
    for (file, _), image in zip(files, images, strict=True):
        if image.shape != images[0].shape:
            raise DatasetInvalid(
                f"{file} is {image.shape[2]}x{image.shape[1]}, {files[0][0].name} is "
                f"{images[0].shape[2]}x{images[0].shape[1]}; give one size for all, for example size=32x32"
            )
    return RawSamples(np.stack(images), np.array([label for _, label in files], dtype=np.int64))


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise DatasetInvalid(f"size={text[:40]} is not usable; wanted WIDTHxHEIGHT in pixels, for example size=32x32")
    return int(match[1]), int(match[2])


def _gray(text: str) -> bool:
    if text not in ("0", "1"):
        raise DatasetInvalid(f"gray={text[:40]} is not usable; wanted 0 or 1")
    return text == "1"


def _read(file: Path, *, size: tuple[int, int] | None, gray: bool) -> npt.NDArray[np.uint8]:
    try:
        from PIL import Image  # an extra
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the data source imagefolder", extra="client") from error
    try:
        with Image.open(file) as picture:
            image = picture.convert("L" if gray else "RGB")
            if size is not None:
                image = image.resize(size)
            pixels = np.asarray(image, dtype=np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise DatasetInvalid(f"{file} cannot be read as a picture: {error}") from error
    return pixels[None, :, :] if gray else np.ascontiguousarray(pixels.transpose(2, 0, 1))
