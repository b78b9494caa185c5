"""Coordinators to test, closed at the end and checked: whatever happened, the invariants must hold."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fed_compute.coordinator import wiring
from tests.unit.coordinator.databases import IN_MEMORY, Databases
from tests.unit.coordinator.stand import Stand

OpenStand = Callable[..., Stand]


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases in memory for one test after the other."""
    databases = Databases()
    yield databases
    databases.close()


@pytest.fixture(scope="module", autouse=True)
def reused_databases(databases: Databases) -> Iterator[None]:
    """Let coordinators in memory use databases that earlier ones have closed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "open_database", databases.open)
        yield


@pytest.fixture
def open_stand(tmp_path: Path) -> Iterator[OpenStand]:
    """Open a coordinator with settings; its records lie in memory unless `database_url` says otherwise."""
    with ExitStack() as stack:

        def open_(folder: str = "data", *, database_url: str | None = IN_MEMORY, **settings: object) -> Stand:
            stand = Stand(tmp_path / folder, database_url=database_url, **settings)
            stack.callback(stand.close)
            return stand

        yield open_


@pytest.fixture
def stand(open_stand: OpenStand) -> Iterator[Stand]:
    """A coordinator with the tiny job, its records in memory. The invariants hold at the end."""
    stand = open_stand()
    stand.create()
    yield stand
    assert stand.breaches() == ()


@pytest.fixture
def durable(open_stand: OpenStand) -> Iterator[Stand]:
    """A coordinator with the tiny job, its records in a file, so that it can be restarted. Checked at the end."""
    stand = open_stand(database_url=None)
    stand.create()
    yield stand
    assert stand.breaches() == ()
