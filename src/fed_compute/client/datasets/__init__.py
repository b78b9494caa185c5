"""Data of this machine: specifications as text, sources, partitions, held-out parts."""

from fed_compute.client.datasets.dataset import Dataset, RawSamples, holdout_sizes, settle, split_holdout
from fed_compute.client.datasets.registry import (
    DATASETS_GROUP,
    is_registered_source,
    load_dataset,
    register_dataset,
    source_names,
)
from fed_compute.client.datasets.spec import DataSpec, parse_spec

__all__ = [
    "DATASETS_GROUP",
    "DataSpec",
    "Dataset",
    "RawSamples",
    "holdout_sizes",
    "is_registered_source",
    "load_dataset",
    "parse_spec",
    "register_dataset",
    "settle",
    "source_names",
    "split_holdout",
]
