"""Where one client of a state folder keeps what is only its own: unsent work, checkpoints, wishes, its status."""

from dataclasses import dataclass
from pathlib import Path

from fed_compute.errors import StateUnusable

WAITING_SUFFIX = ".update"


@dataclass(frozen=True, slots=True)
class OwnFolder:
    """The folder of one client name at one coordinator. Only the process that has claimed its name writes into it.

    But for the wish, which others write.
    """

    root: Path

    @property
    def slot(self) -> str:
        """What the client is called on this machine; also the stem of its credential file."""
        return self.root.name

    @property
    def spool(self) -> Path:
        """The folder of finished updates that wait to be sent."""
        return self.root / "spool"

    @property
    def aside(self) -> Path:
        """The folder of finished updates that are not sent by themselves any more."""
        return self.spool / "aside"

    @property
    def unsent(self) -> Path:
        """The folder of what lossy encodings left out, by job."""
        return self.root / "unsent"

    @property
    def controls(self) -> Path:
        """The folder of the client's own control variates, by job."""
        return self.root / "controls"

    @property
    def checkpoint(self) -> Path:
        """The state of the training under way."""
        return self.root / "training.checkpoint"

    @property
    def status(self) -> Path:
        """What the client does."""
        return self.root / "status.json"

    @property
    def wish(self) -> Path:
        """What the owner wants the client to do."""
        return self.root / "wish.json"

    def make(self) -> None:
        """Make the folders that are missing, for their owner only.

        Raises:
            StateUnusable: if that cannot be.
        """
        try:
            for folder in (self.root.parent, self.root, self.spool, self.unsent, self.controls):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StateUnusable(
                f"{self.root} cannot be made: {error}; set CLIENT_STATE_DIR to a folder of yours"
            ) from error


def own_folder(state_dir: Path, slot: str) -> OwnFolder:
    """Return the folder of one client, which need not exist."""
    return OwnFolder(state_dir.expanduser() / "clients" / slot)


def own_folders(state_dir: Path) -> list[OwnFolder]:
    """Return the folders of all clients that have ever run with this state folder.

    Raises:
        StateUnusable: if the state folder cannot be read.
    """
    home = state_dir.expanduser() / "clients"
    try:
        return [OwnFolder(path) for path in sorted(home.iterdir()) if path.is_dir()]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StateUnusable(f"{home} cannot be read: {error}") from error


def waiting_files(folder: Path) -> list[Path]:
    """Return the updates that lie in a spool folder, the oldest first."""
    if not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if path.suffix == WAITING_SUFFIX and path.name[0] != "."]
    return sorted(found, key=lambda path: (path.stat().st_mtime_ns, path.name))
