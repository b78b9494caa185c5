"""The clients of one state folder as they look from outside: what they do, what waits, and what they are asked."""

from dataclasses import dataclass
from pathlib import Path

from fed_compute.client.own_folder import OwnFolder, own_folders, waiting_files
from fed_compute.client.security import CredentialStore
from fed_compute.client.status import Status
from fed_compute.client.status_board import read_status
from fed_compute.client.wishes import Wish, read_wish, write_wish
from fed_compute.errors import ClientNotRunning


@dataclass(frozen=True, slots=True)
class Pile:
    """Finished updates in a folder. `oldest_at` is when the oldest was finished, Unix seconds."""

    folder: Path
    count: int
    num_bytes: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class Resident:
    """One client of this machine. `status` is of its last run, None if that left none that can be read."""

    folder: OwnFolder
    is_running: bool
    status: Status | None
    wish: Wish
    waiting: Pile
    aside: Pile

    def wish_at(self, now: float) -> Wish:
        """Return what is still wanted at a moment: not a pause whose time is over, nor a finish of an earlier run."""
        runs = self.is_running and self.status is not None and self.wish.finishes(self.status.run)
        return self.wish if runs or self.wish.pauses(now) else Wish()

    @property
    def name(self) -> str:
        """Its name at the coordinator; before it had one, that of its folder."""
        known = None if self.status is None else self.status.client_id
        return known or self.folder.slot


def residents(state_dir: Path) -> list[Resident]:
    """Return every client that has ever run with this state folder.

    Raises:
        StateUnusable: if the folder, or an owner's wish in it, cannot be read.
    """
    store = CredentialStore(state_dir)
    return [_resident(folder, store) for folder in own_folders(state_dir)]


def running(state_dir: Path, name: str | None) -> list[Resident]:
    """Return the clients that run now, or the one of this name.

    Raises:
        ClientNotRunning: if there is none.
        StateUnusable: as `residents`.
    """
    found = [one for one in residents(state_dir) if one.is_running]
    chosen = [one for one in found if name in (None, one.name, one.folder.slot)]
    if not chosen:
        raise ClientNotRunning(name, state_dir=str(state_dir), names=[one.name for one in found])
    return chosen


def ask(resident: Resident, wish: Wish) -> None:
    """Tell a client what its owner wants. It looks within a second, or when the call ends that it waits for.

    Raises:
        StateUnusable: if that cannot be written down.
    """
    write_wish(resident.folder.wish, wish)


def _resident(folder: OwnFolder, store: CredentialStore) -> Resident:
    return Resident(
        folder=folder,
        is_running=store.is_claimed(folder.slot),
        status=read_status(folder.status),
        wish=read_wish(folder.wish),
        waiting=_pile(folder.spool),
        aside=_pile(folder.aside),
    )


def _pile(folder: Path) -> Pile:
    stats = [file.stat() for file in waiting_files(folder)]
    oldest_at = min((stat.st_mtime for stat in stats), default=None)
    return Pile(folder, len(stats), sum(stat.st_size for stat in stats), oldest_at)
