"""Whether this machine can run a coordinator."""

from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from fed_compute.cli.doctor import environment, machine
from fed_compute.cli.doctor.judgements import SERVE_MEMORY_BYTES, SERVE_SPACE_BYTES, Finding, bad, warn, well
from fed_compute.clock import Clock
from fed_compute.coordinator.data_dir import DATABASE, SECRETS
from fed_compute.coordinator.settings import PREFIX, CoordinatorSettings
from fed_compute.coordinator.verify import verify_data_dir
from fed_compute.errors import FedComputeError
from fed_compute.storage.sql.database import open_database


def look(*, data_dir: Path | None, host: str | None, port: int | None, clock: Clock) -> Iterator[Finding]:
    """Yield one finding after another. Where a setting is given by flag, the environment's does not count.

    If a variable cannot be used, the defaults stand for the settings from there on.
    """
    yield from machine.program()
    findings = environment.settings(CoordinatorSettings, prefixes=(PREFIX,), environ=environment.present())
    yield from findings
    settings = CoordinatorSettings.model_construct() if any(one.level == "bad" for one in findings) else None
    settings = settings or CoordinatorSettings()
    folder = data_dir or settings.data_dir
    yield from _data(folder, database_url=settings.database_url, blob_url=settings.blob_url)
    yield machine.port(host or settings.host, settings.port if port is None else port)
    yield from machine.clock(clock)
    yield machine.memory(wanted_bytes=SERVE_MEMORY_BYTES)
    torch = machine.installed_version("torch")
    yield well("torch", "not installed, and not needed to serve" if torch is None else f"{torch}, not needed to serve")


def _data(folder: Path, *, database_url: str | None, blob_url: str | None) -> Iterator[Finding]:
    finding = machine.folder("data folder", folder, secrets=SECRETS)
    yield finding
    if finding.level == "bad":
        return
    yield machine.space("disk", folder, wanted_bytes=SERVE_SPACE_BYTES)
    if (folder / "lock").exists():
        yield _lock(folder)
    if database_url is None and not (folder / DATABASE).exists():
        yield well("database", "none yet; the first start makes it")
        return
    yield from _database(folder, database_url=database_url, blob_url=blob_url)


def _lock(folder: Path) -> Finding:
    lock = FileLock(folder / "lock", blocking=False)
    try:
        with lock:
            return well("lock", "no coordinator works on this folder")
    except Timeout:
        return bad(
            "lock", "a coordinator works on this folder now", "one is enough; give another one its own --data-dir"
        )


def _database(folder: Path, *, database_url: str | None, blob_url: str | None) -> Iterator[Finding]:
    """Judge the records: do they open, are they of this version, and do they keep what they promise."""
    try:
        database = open_database(database_url or f"sqlite:///{folder / DATABASE}")
        try:
            schema = database.schema()
        finally:
            database.close()
        if not schema.is_known:
            yield bad(
                "database", f"a newer version made it (schema {schema.found})", "start that version, or a newer one"
            )
            return
        if schema.found != schema.wanted:
            found = f"its schema is {schema.found or 'missing'}, this version has {schema.wanted}"
            yield warn("database", found, "the next start brings it up to date; back it up first: fed-compute backup")
            return
        yield well("database", f"opens, schema {schema.found}")
        report = verify_data_dir(folder, database_url=database_url, blob_url=blob_url, records_only=True)
    except FedComputeError as error:
        yield bad("database", error.message, "look at it with: fed-compute verify; a backup is brought back by restore")
        return
    if report.breaches:
        first = f"{len(report.breaches)} promises are broken, first: {report.breaches[0]}"
        yield bad("records", first, f"see all with: fed-compute verify {folder}")
        return
    yield well("records", f"{len(report.checks)} promises hold; `fed-compute verify` looks at the files too")
