"""The client's credential: who it is at which coordinator, in files that only their owner can read."""

import hashlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fed_compute.clock import SystemClock
from fed_compute.errors import CredentialUnsafe

_MOST_SLOTS = 1000
_TRIES, _LOOK_SECONDS = 3, 0.02
_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Credential:
    """One client at one coordinator. The key never shows in `repr`."""

    coordinator_url: str
    client_id: str
    api_key: str = field(repr=False)


class CredentialStore:
    """Credential files of one state directory.

    There is one file per coordinator and client name. Clients without a name take the first file
    that no other running client has claimed, so several on one machine stay different clients and
    each is itself again after a restart.
    """

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir.expanduser() / "credentials"
        self._claims: list[int] = []

    def claim(self, coordinator_url: str, client_name: str | None) -> Path:
        """Return the file for this client and keep it claimed until `release` or the end of the process.

        Raises:
            CredentialUnsafe: if the folder cannot be used, or another running client has this name's file.
        """
        self._make_folder()
        for slot in _slots(coordinator_url, client_name):
            if (lock := _lock(self._folder / f"{slot}.lock")) is not None:
                self._claims.append(lock)
                return self._folder / f"{slot}.json"
        raise CredentialUnsafe(
            f"another running client uses the credential of {client_name or 'every slot'} in {self._folder}; "
            "stop it, or set another CLIENT_NAME or CLIENT_STATE_DIR"
        )

    def find(self, coordinator_url: str, client_name: str | None) -> Credential | None:
        """Return what a client that starts alone would be, without claiming it; None if it would register.

        Raises:
            CredentialUnsafe: as `load`.
        """
        return self.load(self._folder / f"{_slots(coordinator_url, client_name)[0]}.json")

    def is_claimed(self, slot: str) -> bool:
        """Say whether a running client has claimed the file with this stem.

        Raises:
            CredentialUnsafe: if the folder cannot be used.
        """
        file = self._folder / f"{slot}.lock"
        if not file.exists():
            return False
        if (lock := _lock(file)) is not None:
            os.close(lock)
        return lock is None

    def load(self, file: Path) -> Credential | None:
        """Read a claimed file; None if it does not exist.

        Raises:
            CredentialUnsafe: if others may read it, or it is not a credential.
        """
        try:
            mode = file.stat().st_mode
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise CredentialUnsafe(f"credential file {file} cannot be read: {error}") from error
        if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise CredentialUnsafe(
                f"credential file {file} has mode {stat.S_IMODE(mode):04o}, wanted 0600; others may have read the key: "
                f"run chmod 600 {file}, and ask for a new key if others use this machine"
            )
        return _parse(text, file)

    def save(self, file: Path, credential: Credential) -> None:
        """Write a claimed file with mode 0600: afterwards it is there whole, or the old one still is.

        Raises:
            CredentialUnsafe: if it cannot be written.
        """
        try:
            handle, name = tempfile.mkstemp(dir=self._folder, prefix=file.name)  # mkstemp makes it 0600
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as stream:
                    json.dump(asdict(credential), stream)
                    stream.flush()
                    os.fsync(stream.fileno())
                Path(name).replace(file)
            finally:
                Path(name).unlink(missing_ok=True)  # still there only if something failed
        except OSError as error:
            raise CredentialUnsafe(f"credential file {file} cannot be written: {error}") from error

    def release(self) -> None:
        """Give up all claims."""
        while self._claims:
            os.close(self._claims.pop())

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CredentialUnsafe(
                f"the folder {self._folder} cannot be made: {error}; set CLIENT_STATE_DIR to one you can write"
            ) from error


def _slots(coordinator_url: str, client_name: str | None) -> list[str]:
    """Return the stems of the files that may be this client's, in the order in which they are tried."""
    stem = hashlib.sha256(coordinator_url.encode()).hexdigest()[:16]
    return [f"{stem}-{client_name}"] if client_name else [f"{stem}.{slot}" for slot in range(1, _MOST_SLOTS)]


def _parse(text: str, file: Path) -> Credential:
    try:
        values = json.loads(text)
        found = {name: values[name] for name in ("coordinator_url", "client_id", "api_key")}
    except (ValueError, TypeError, KeyError) as error:
        raise CredentialUnsafe(f"{file} is not a credential file; move it away to register anew") from error
    if not all(isinstance(value, str) and value for value in found.values()):
        raise CredentialUnsafe(f"{file} is not a credential file; move it away to register anew")
    return Credential(**found)


def _lock(file: Path) -> int | None:
    """Lock a file for this process and return its descriptor; None if another process has it.

    Whoever only looks whether a file is claimed has it for an instant, so it is tried for longer than that.
    """
    for _ in range(_TRIES - 1):
        if (lock := _try_lock(file)) is not None:
            return lock
        _CLOCK.sleep(_LOOK_SECONDS)
    return _try_lock(file)


def _try_lock(file: Path) -> int | None:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CredentialUnsafe(
            f"{file} cannot be opened: {error}; set CLIENT_STATE_DIR to a folder of yours"
        ) from error
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
