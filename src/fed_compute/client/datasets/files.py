"""Paths of data sets."""

from pathlib import Path
from typing import Literal

from fed_compute.errors import DatasetInvalid, DatasetMissing


def existing(path: str | None, *, kind: Literal["file", "folder"]) -> Path:
    """Return the path, `~` expanded, if there is such a file or folder.

    Raises:
        DatasetMissing: if there is not.
    """
    if path is None:
        raise DatasetInvalid(f"this data source needs the path of a {kind}")
    found = Path(path).expanduser()
    if not (found.is_file() if kind == "file" else found.is_dir()):
        raise DatasetMissing(f"there is no {kind} {found}; put your data there or correct the path", path=str(found))
    return found
