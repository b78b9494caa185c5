"""From a data specification to samples, by source name."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from fed_compute.client.datasets.dataset import Dataset, RawSamples, settle
from fed_compute.client.datasets.digits import load_breast_cancer, load_digits
from fed_compute.client.datasets.idx import load_fashion_mnist
from fed_compute.client.datasets.imagefolder import load_imagefolder
from fed_compute.client.datasets.parquet import load_parquet
from fed_compute.client.datasets.partition import Rows, dirichlet_parts, iid_parts, sorted_parts
from fed_compute.client.datasets.spec import DataSpec, parse_spec, refuse_unknown_options
from fed_compute.client.datasets.tables import load_csv, load_npz
from fed_compute.errors import DatasetInvalid, NameReserved

DATASETS_GROUP = "fed_compute.datasets"
"""Entry point group of plug-in sources: name → callable(path, options) returning (x, y) or `RawSamples`."""

LoadSource = Callable[[str | None, Mapping[str, str]], RawSamples]
Arrays = tuple[npt.ArrayLike, npt.ArrayLike]
Load = TypeVar("Load", bound=Callable[[str | None, Mapping[str, str]], RawSamples | Arrays])


@dataclass(frozen=True)
class _Source:
    load: LoadSource
    path: Literal["none", "optional", "required"]
    options: frozenset[str] = frozenset()


_BUILT_IN: Mapping[str, _Source] = {
    "digits": _Source(load_digits, "none"),
    "breast-cancer": _Source(load_breast_cancer, "none", frozenset({"features"})),
    "csv": _Source(load_csv, "required", frozenset({"label"})),
    "npz": _Source(load_npz, "required"),
    "parquet": _Source(load_parquet, "required", frozenset({"label"})),
    "imagefolder": _Source(load_imagefolder, "required", frozenset({"size", "gray"})),
    "fashion-mnist": _Source(load_fashion_mnist, "optional", frozenset({"subset"})),
}

_REGISTERED: dict[str, Callable[[str | None, Mapping[str, str]], RawSamples | Arrays]] = {}


def register_dataset(name: str) -> Callable[[Load], Load]:
    """Make a function the data source `name` of this process; for use as a decorator.

    It is called with the path behind the colon and the options of the data specification, and returns samples and
    labels: (x, y), each with one row per sample. A package that brings a source declares an entry point in the group
    `fed_compute.datasets` instead. The last registration of a name counts, so a notebook's cell may run again.

    Raises:
        NameReserved: if a built-in source has the name.
    """
    if name in _BUILT_IN:
        raise NameReserved("data source", name, reserved=_BUILT_IN)

    def register(load: Load) -> Load:
        _REGISTERED[name] = load
        return load

    return register


def is_registered_source(name: str) -> bool:
    """Say whether a source is known by `register_dataset`, in this process and no other."""
    return name in _REGISTERED


def source_names() -> list[str]:
    """Return the names of all sources that this machine knows, sorted."""
    return sorted({*_BUILT_IN, *_REGISTERED, *_plugins()})


def load_dataset(spec: str | DataSpec) -> Dataset:
    """Load the samples that a specification names. Nothing is ever made up in their place.

    The whole source is read, then only the wanted part is kept and converted.

    Raises:
        DatasetInvalid: if the specification or the data cannot be used.
        DatasetMissing: if the data is not on this machine, saying what was looked for and how to get it.
    """
    parsed = parse_spec(spec) if isinstance(spec, str) else spec
    raw = _read(parsed)
    if parsed.part[1] > 1:
        rows = _rows(parsed, raw)
        raw = RawSamples(raw.x[rows], raw.y[rows])
    return settle(raw, str(parsed))


def _read(spec: DataSpec) -> RawSamples:
    source = _BUILT_IN.get(spec.source)
    if source is None:
        return _read_plugin(spec)
    refuse_unknown_options(spec, source.options)
    if spec.path is None and source.path == "required":
        raise DatasetInvalid(f"{spec.source} needs a path: {spec.source}:PATH")
    if spec.path is not None and source.path == "none":
        raise DatasetInvalid(f"{spec.source} takes no path, found {spec.path[:200]!r}")
    return source.load(spec.path, spec.options)


def _read_plugin(spec: DataSpec) -> RawSamples:
    match _plugin(spec.source)(spec.path, spec.options):
        case RawSamples(x=x, y=y) | (x, y):
            return RawSamples(np.asarray(x), np.asarray(y))
        case other:
            raise DatasetInvalid(
                f"plug-in source {spec.source!r} returned a {type(other).__name__}, wanted (x, y) or RawSamples"
            )


def _plugin(name: str) -> Callable[[str | None, Mapping[str, str]], Any]:
    if name in _REGISTERED:
        return _REGISTERED[name]
    if (point := _plugins().get(name)) is None:
        names = source_names()
        ending = name.rpartition(".")[2].lower() if "." in name else ""
        nearest = (
            [f"{ending}:{name[:80]}"] if ending in names else difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        )
        hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
        raise DatasetInvalid(
            f"data source {name[:80]!r} is unknown{hint} known: {', '.join(names)}; "
            f"a package with an entry point in the group {DATASETS_GROUP!r} adds one"
        )
    load: Callable[[str | None, Mapping[str, str]], Any] = point.load()
    return load


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=DATASETS_GROUP) if point.name not in _BUILT_IN}


def _rows(spec: DataSpec, raw: RawSamples) -> Rows:
    place, parts = spec.part
    if spec.split == "iid":
        return iid_parts(len(raw.x), parts, seed=spec.seed)[place - 1]
    if spec.split == "sorted":
        return sorted_parts(raw.y, parts, seed=spec.seed)[place - 1]
    return dirichlet_parts(raw.y, parts, alpha=spec.alpha, seed=spec.seed)[place - 1]
