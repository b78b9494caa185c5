"""Which blob store: the folder of this machine, or an object store that several machines share."""

from pathlib import Path

from fed_compute.errors import ExtraMissing
from fed_compute.storage.blobs import BlobStore, LocalBlobStore

IN_PROCESS = "process://"


def open_blobs(url: str | None, folder: Path) -> BlobStore:
    """Open the object store at `url`, or without one the blobs in `folder`, where arriving bodies lie in any case.

    `process://` keeps them in this process, for a simulation: nothing is left of them afterwards.

    Raises:
        SettingInvalid: if `url` names no object store.
        BlobStoreUnusable: if it cannot be written and read.
        ExtraMissing: if the library for object stores is not installed.
    """
    if url is None:
        return LocalBlobStore(folder)
    if url == IN_PROCESS:
        return _open_memory(folder)
    try:
        from fed_compute.storage.object_blobs import open_object_blobs
    except ModuleNotFoundError as error:
        raise ExtraMissing(what="an object store for blobs", extra="s3") from error
    blobs = open_object_blobs(url, folder / "incoming")
    blobs.probe()
    return blobs


def _open_memory(folder: Path) -> BlobStore:
    try:
        from fed_compute.storage.memory_blobs import MemoryBlobStore
    except ModuleNotFoundError as error:
        raise ExtraMissing(what=f"{IN_PROCESS} for blobs", extra="simulator") from error
    return MemoryBlobStore(folder / "incoming")
