"""Parts of a client as `wiring` puts them together, for tests that need a few of them only."""

from pathlib import Path
from typing import Any

from fed_compute.client.account import Account
from fed_compute.client.api import CoordinatorApi
from fed_compute.client.config import ClientSettings
from fed_compute.client.departures import DepartureLog, sent_folder
from fed_compute.client.guard import Guard
from fed_compute.client.history import DayBook
from fed_compute.client.limits import policy_of
from fed_compute.client.memory import WorkMemory
from fed_compute.client.outbox import Outbox
from fed_compute.client.own_folder import OwnFolder
from fed_compute.client.security import CredentialStore
from fed_compute.client.spool import Spool
from fed_compute.client.wishes import Wishes
from fed_compute.clock import ManualClock
from tests.unit.client.volunteer import Watcher

RUN = "this run"


def folder_in(path: Path) -> OwnFolder:
    """Return a client's own folder, made."""
    own = OwnFolder(path / "clients" / "me")
    own.make()
    return own


def memory_in(path: Path) -> WorkMemory:
    """Return a memory that keeps its files below a folder."""
    return WorkMemory(folder_in(path), ManualClock(), Watcher())


def wishes_in(path: Path, clock: ManualClock) -> Wishes:
    """Return the owner's wishes for `RUN`."""
    return Wishes(folder_in(path).wish, clock, run=RUN)


def account_in(path: Path, api: CoordinatorApi, settings: ClientSettings, **how: Any) -> Account:
    """Return who a client is, with its name claimed."""
    clock, sent, store = ManualClock(), sent_folder(path), CredentialStore(path)
    guard = Guard(policy_of(settings), DayBook(sent), wishes_in(path, clock), clock, on_battery=lambda: False)
    log = DepartureLog(sent, clock, coordinator=settings.coordinator_url, max_bytes=10**6, keep_updates=0)
    outbox = Outbox(api, log, guard, Spool(folder_in(path), Watcher(), max_bytes=10**6))
    file = store.claim(settings.coordinator_url, settings.client_name)
    return Account(settings, store, file, api, outbox, **how)
