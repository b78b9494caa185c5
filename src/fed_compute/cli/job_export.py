"""A job in a folder or a file, so that anybody can read, check and repeat it without the coordinator."""

import hashlib
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fed_compute.cli.admin_api import AdminApi
from fed_compute.cli.files import new_path, require_new
from fed_compute.cli.transfers import fetch_model
from fed_compute.errors import InvariantBroken
from fed_compute.protocol.lineage import FIRST_CHAIN, chain_digest

FORMAT = "fed-compute job export 1"
Models = Literal["all", "latest", "none"]
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can say: no file of an export tells when it was written."""


@dataclass(frozen=True, slots=True)
class Export:
    """What was written."""

    path: Path
    num_files: int
    num_bytes: int


def export_job(api: AdminApi, name: str, path: Path, *, models: Models, force: bool) -> Export:
    """Write a job to a new folder, or to one file if its name ends in `.zip`; it is there whole or not at all.

    `job.json` is the recipe, which `job create` takes again; `parameters.json` what its vector means; `rounds.json` and
    `versions.json` what happened; `manifests.json` the updates that each version counts, with their weights; `models/`
    the files; `manifest.json` the SHA-256 and size of each.

    Raises:
        SettingInvalid: if `path` is taken and not `force`.
        CallRefused: if there is no such job.
        InvariantBroken: if a version does not follow from the one before, or has another model than it says.
    """
    require_new(path, force=force)
    details = api.get(f"/jobs/{name}")
    with new_path(path) as new:
        folder = new.with_name(f"{new.name}.files") if path.suffix == ".zip" else new
        try:
            made = _write(api, details, folder, models=models)
            if folder is not new:
                _pack(folder, new)
        finally:
            if folder is not new:
                _empty(folder)
    return Export(path, *made)


def _write(api: AdminApi, details: dict[str, Any], folder: Path, *, models: Models) -> tuple[int, int]:
    (folder / "models").mkdir(parents=True)
    facts = {key: details[key] for key in ("name", "description", "state", "created_at", "latest_version")}
    _put(folder / "job.json", details["recipe"])
    _put(folder / "parameters.json", details["parameters"])
    _put(folder / "rounds.json", details["rounds"])
    _put(folder / "versions.json", details["versions"])
    manifests = _checked_manifests(api, details)
    _put(folder / "manifests.json", manifests)
    for version in {"all": details["versions"], "latest": details["versions"][-1:], "none": []}[models]:
        file = folder / "models" / f"{version['version']}.safetensors"
        if fetch_model(api, details["name"], version["version"], file).digest != version["digest"]:
            raise InvariantBroken(
                f"{version['version']} is another model than its row says; run fed-compute verify there"
            )
    files = [{"path": str(file.relative_to(folder)), **_measured(file)} for file in _files(folder)]
    chain = manifests[-1]["chain"]
    _put(folder / "manifest.json", {"format": FORMAT, "job": facts, "chain": chain, "files": files})
    return len(files) + 1, sum(file.stat().st_size for file in _files(folder))


def _checked_manifests(api: AdminApi, details: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what each version was made of, with the chain of their digests checked from v1 on.

    Raises:
        InvariantBroken: if a version does not follow from the one before.
    """
    count = len(details["versions"])
    manifests = list(api.pages(f"/jobs/{details['name']}/manifests", "manifests", limit=count))
    chain: str = FIRST_CHAIN
    for version, found in zip(details["versions"], manifests, strict=True):
        chain = chain_digest(chain, manifest=found["manifest"], model=version["digest"])
        if (found["digest"], found["chain"], version["chain"]) != (version["digest"], chain, chain):
            raise InvariantBroken(
                f"{version['version']} does not follow from what it was made of; run fed-compute verify"
            )
    return manifests


def _put(file: Path, document: Any) -> None:
    file.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _measured(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(stream, "sha256").hexdigest()}


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _pack(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _files(folder):
            entry = zipfile.ZipInfo(str(file.relative_to(folder)), _FIRST_DAY)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def _empty(folder: Path) -> None:
    for file in _files(folder):
        file.unlink()
    for inner in (folder / "models", folder):
        if inner.is_dir():
            inner.rmdir()
