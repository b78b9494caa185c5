"""Parquet files are read like CSV files: numbers, a label by name, and an error that says where."""

from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from fed_compute.client.datasets import load_dataset
from fed_compute.errors import DatasetInvalid, DatasetMissing


def written(folder: Path, **columns: list[object]) -> str:
    path = folder / "table.parquet"
    parquet.write_table(pyarrow.table(columns), path)
    return f"parquet:{path}"


def test_the_last_column_is_the_label_unless_one_is_named(tmp_path: Path) -> None:
    spec = written(tmp_path, a=[1.5, 2.5], kind=[0, 1], b=[3.0, 4.0])
    assert load_dataset(spec).y.tolist() == [3.0, 4.0]
    named = load_dataset(f"{spec},label=kind")
    assert named.y.dtype == np.int64
    assert named.x.tolist() == [[1.5, 3.0], [2.5, 4.0]]


def test_what_is_no_number_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetInvalid, match="column 'town' holds something else"):
        load_dataset(written(tmp_path, town=["A", "B"], y=[0, 1]))
    with pytest.raises(DatasetInvalid, match="has no column 'z'"):
        load_dataset(written(tmp_path, a=[1.0], y=[0]) + ",label=z")


def test_what_is_no_parquet_file_or_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(DatasetInvalid, match="is not a Parquet file"):
        load_dataset(f"parquet:{tmp_path}/x.parquet")
    with pytest.raises(DatasetMissing):
        load_dataset(f"parquet:{tmp_path}/y.parquet")


@pytest.mark.parametrize(("spec", "features"), [("breast-cancer", 30), ("breast-cancer,features=20", 20)])
def test_the_tumours_of_scikit_learn_are_scaled_and_come_with_20_or_30_features(spec: str, features: int) -> None:
    data = load_dataset(spec)
    assert data.x.shape == (569, features)
    assert np.bincount(data.y).tolist() == [212, 357]
    assert np.abs(data.x.mean(axis=0)).max() < 1e-5
    assert data.x.std(axis=0) == pytest.approx(1.0, abs=1e-5)
    with pytest.raises(DatasetInvalid, match="wanted 20 or 30"):
        load_dataset("breast-cancer,features=7")
