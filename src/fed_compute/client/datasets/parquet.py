"""Tables of numbers in Parquet files."""

from collections.abc import Mapping

import numpy as np

from fed_compute.client.datasets.dataset import RawSamples
from fed_compute.client.datasets.files import existing
from fed_compute.errors import DatasetInvalid, ExtraMissing


def load_parquet(path: str | None, options: Mapping[str, str]) -> RawSamples:
    """Read a Parquet file of numbers, a sample in each row. `label` names the label's column, else it is the last.

    Labels become classes if the column holds whole numbers, else float targets.

    Raises:
        DatasetMissing: if the file is not there.
        DatasetInvalid: if it is no Parquet file, or a column holds something else than numbers.
        ExtraMissing: if pyarrow is not installed.
    """
    file = existing(path, kind="file")
    try:
        import pyarrow  # an extra
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="the data source parquet", extra="parquet") from error
    try:
        table = parquet.read_table(file)
    except (OSError, pyarrow.ArrowException) as error:
        raise DatasetInvalid(f"{file} is not a Parquet file: {str(error)[:200]}") from error
    names = table.column_names
    label = options.get("label", names[-1] if names else "")
    if label not in names or len(names) < 2:
        raise DatasetInvalid(f"{file} has no column {label[:80]!r} beside others; columns: {', '.join(names)[:400]}")
    columns = {name: table.column(name).to_numpy() for name in names}
    for name, values in columns.items():
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise DatasetInvalid(f"{file} column {name[:80]!r} holds something else than finite numbers")
    target = columns.pop(label)
    return RawSamples(np.stack(list(columns.values()), axis=1).astype(np.float64), target)
