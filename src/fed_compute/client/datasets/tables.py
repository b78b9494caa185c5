"""Tables of numbers: CSV files and NumPy archives."""

import csv
import difflib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.client.datasets.files import existing
from fed_compute.errors import DatasetInvalid


def load_csv(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Read a CSV file of numbers, one sample per line; empty lines are skipped.

    The first line is a header if any of its cells is not a number. `label` names the label's
    column, or counts it from 0 (negative from the end); the default is the last column. Labels
    become classes if all of them are written as whole numbers, else float targets.

    Raises:
        DatasetMissing: if the file is not there.
        DatasetInvalid: naming line and column of the first cell that is not a finite number.
    """
    file = existing(path, kind="file")
    header, rows = _cells(file)
    column = _label_column(options.get("label", "-1"), header, len(rows[0][1]), file)
    table = np.array([_numbers(line, cells, len(rows[0][1]), file) for line, cells in rows], dtype=np.float64)
    labels = table[:, column]
    whole = all(cells[column].strip().lstrip("+-").isdigit() for _, cells in rows)
    return RawSamples(np.delete(table, column, axis=1), labels.astype(np.int64) if whole else labels)


def load_npz(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Read the arrays `x`, shape (N, …), and `y`, shape (N,) or (N, K), of a NumPy archive.

    Unsigned bytes in `x` are pixels and become 0..1. Archives that need pickle are refused.

    Raises:
        DatasetMissing: if the file is not there.
        DatasetInvalid: if it is no archive, lacks an array, or holds something else than numbers.
    """
    file = existing(path, kind="file")
    try:
        with file.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DatasetInvalid(f"{file} is not a NumPy archive, found a single array; use numpy.savez(x=…, y=…)")
            if missing := sorted({"x", "y"} - set(archive.files)):
                raise DatasetInvalid(f"{file} has no array {missing[0]!r}, found {archive.files[:20]}, wanted x and y")
            x, y = archive["x"], archive["y"]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetInvalid(f"{file} is not a NumPy archive of numbers: {error}") from error
    if x.ndim < 2 or y.ndim not in (1, 2):
        raise DatasetInvalid(
            f"{file}: x has shape {list(x.shape)} and y {list(y.shape)}, wanted x (N, …) and y (N,) or (N, K)"
        )
    return RawSamples(x, y)


def _cells(file: Path) -> tuple[list[str] | None, list[tuple[int, list[str]]]]:
    """Return the header, if any, and the other lines with their numbers."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            reader = csv.reader(text)
            rows = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetInvalid(f"{file} is not a CSV file in UTF-8: {error}") from error
    header = None
    if rows and not all(_is_number(cell) for cell in rows[0][1]):
        header = [cell.strip() for cell in rows.pop(0)[1]]
    if not rows or len(rows[0][1]) < 2:
        raise DatasetInvalid(f"{file} needs at least one line of numbers with two columns, the features and the label")
    return header, rows


def _label_column(label: str, header: list[str] | None, width: int, file: Path) -> int:
    if header is not None and label in header:
        return header.index(label)
    try:
        column = int(label)
    except ValueError:
        known = ", ".join(header) if header else "none, the file has no header"
        nearest = difflib.get_close_matches(label, header or [], n=1)
        hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
        raise DatasetInvalid(f"{file} has no column {label[:80]!r}{hint} column names: {known[:400]}") from None
    if not -width <= column < width:
        raise DatasetInvalid(f"{file} has columns 0 to {width - 1}, found label={column}")
    return column % width


def _numbers(line: int, cells: list[str], width: int, file: Path) -> npt.NDArray[Any]:
    if len(cells) != width:
        raise DatasetInvalid(f"{file} line {line} has {len(cells)} cells, wanted {width} as in the first line")
    for place, cell in enumerate(cells):
        if not _is_number(cell):
            raise DatasetInvalid(
                f"{file} line {line} column {place}: found {cell[:40]!r}, wanted a finite number; "
                "write categories as numbers and fill or drop missing values first"
            )
    return np.array([float(cell) for cell in cells], dtype=np.float64)


def _is_number(cell: str) -> bool:
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False
