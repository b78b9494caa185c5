"""The data folder of one coordinator: its lock, its secrets, its places.

coordinator.sqlite3   records and journal; its size changes show whether the disk lives: coordinator.sqlite3-probe
blobs/                model files and updates by digest
pepper                the secret under which keys are kept, mode 0600
pepper.previous       the one before it, while keys move to the new one; put there by an operator
operator.key          the first operator key, mode 0600
lock                  held while a coordinator runs
"""

import os
import secrets
from pathlib import Path

from filelock import FileLock, Timeout

from fed_compute.errors import DataDirInUse, DataDirUnusable, SettingInvalid
from fed_compute.storage.blobs import make_folder, sync

DATABASE = "coordinator.sqlite3"
SECRETS = ("pepper", "pepper.previous", "operator.key")
PEPPER_BYTES = 32


class DataDir:
    """A folder that exists, can be written, and belongs to this process until `release`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path / "lock", blocking=False)

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the folder's database."""
        return f"sqlite:///{self.database}"

    @property
    def database(self) -> Path:
        """The file of the folder's database, which is there unless another database is used."""
        return self.path / DATABASE

    @property
    def blobs(self) -> Path:
        """Where blobs lie."""
        return self.path / "blobs"

    @property
    def operator_key(self) -> Path:
        """The file that holds the operator's key."""
        return self.path / "operator.key"

    @property
    def pepper_file(self) -> Path:
        """The file that holds the secret under which keys are kept."""
        return self.path / "pepper"

    @property
    def previous_pepper_file(self) -> Path:
        """Where an operator puts the old pepper to have a new one made."""
        return self.path / "pepper.previous"

    def claim(self) -> None:
        """Create the folder if needed and take its lock.

        Raises:
            DataDirUnusable: if the folder cannot be created or written.
            DataDirInUse: if another process holds it.
        """
        try:
            make_folder(self.path)
            sync(self.path)  # a start that failed may have left names that are not durable
            self._lock.acquire()
        except Timeout:
            raise DataDirInUse(str(self.path)) from None
        except OSError as error:
            raise DataDirUnusable(
                f"data directory {self.path} cannot be written ({error.strerror or error}); "
                "choose another with --data-dir"
            ) from error

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()

    def pepper(self) -> bytes:
        """Return the secret under which keys are kept, 32 bytes; drawn on the first call."""
        if not self.pepper_file.exists():
            write_private(self.pepper_file, secrets.token_hex(PEPPER_BYTES))
        return pepper_from(self.pepper_file.read_text(encoding="ascii"))

    def previous_pepper(self) -> bytes | None:
        """Return the pepper before the present one, None if an operator has put none there."""
        if not self.previous_pepper_file.exists():
            return None
        return pepper_from(self.previous_pepper_file.read_text(encoding="ascii"))


def pepper_from(text: str) -> bytes:
    """Read a pepper written in hexadecimal.

    Raises:
        SettingInvalid: if it is not at least 32 bytes. The text is not repeated, it is a secret.
    """
    try:
        pepper = bytes.fromhex(text.strip())
    except ValueError:
        pepper = b""
    if len(pepper) < PEPPER_BYTES:
        raise SettingInvalid("the pepper is not 64 hexadecimal digits or more; make one with: openssl rand -hex 32")
    return pepper


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, as a whole or not at all; durable when this returns."""
    beside = path.with_name(f"{path.name}.{os.urandom(4).hex()}")
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync(path.parent)
