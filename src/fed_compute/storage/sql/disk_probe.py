"""Is the disk below a database still able to take a change?"""

import os
from pathlib import Path

from fed_compute.errors import DiskFailed, disk_error


class DiskProbe:
    """A file beside a database, whose size changes after every commit.

    While ext4 gives its journal up, which takes it milliseconds, an fsync may report success for what is then lost
    (seen with Linux 6.18: `jbd2_complete_transaction` finds the transaction neither running nor committing). SQLite has
    to believe it. A change of a file's size needs the journal, so it fails from the first of those moments; one that
    succeeds after an fsync shows that the fsync told the truth. Cost: some 10 µs.
    """

    def __init__(self, database: Path) -> None:
        self._path = database.with_name(f"{database.name}-probe")

    def require_alive(self) -> None:
        """Change the file's size.

        Raises:
            DiskFull: if there is no room even for that.
            DiskFailed: if the disk takes no change.
        """
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(handle, 1 - min(1, os.fstat(handle).st_size))
            finally:
                os.close(handle)
        except OSError as error:
            raise (disk_error(error) or DiskFailed()) from error
