"""How much left this machine today, in a small file that outlives the client."""

import json
from datetime import date
from pathlib import Path

from fed_compute.client.policy import History
from fed_compute.client.private_files import locked_folder, replace
from fed_compute.errors import StateUnusable


class DayBook:
    """Counts updates by local day, for all clients that share one state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file = folder / "today.json"

    def read(self) -> History:
        """Return the last day with an update, and its number of updates.

        Raises:
            StateUnusable: if the file cannot be read or is not a count. A limit is never taken for unbroken then.
        """
        try:
            text = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return History()
        except (OSError, UnicodeDecodeError) as error:
            raise StateUnusable(f"the count of today's updates {self._file} cannot be read: {error}") from error
        try:
            found = json.loads(text)
            day, updates = date.fromisoformat(found["day"]), found["updates"]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise self._not_a_count() from error
        if type(updates) is not int or updates < 0:
            raise self._not_a_count()
        return History(day, updates)

    def spend(self, day: date, *, limit: int | None) -> bool:
        """Count one more update on a day, durably; False, and nothing changes, if the limit was reached already.

        Raises:
            StateUnusable: if the file cannot be read or written. The count is unchanged.
        """
        with locked_folder(self._folder):
            done = self.read().on(day)
            if limit is not None and done >= limit:
                return False
            replace(self._file, json.dumps({"day": day.isoformat(), "updates": done + 1}).encode())
            return True

    def _not_a_count(self) -> StateUnusable:
        return StateUnusable(
            f"{self._file} is not a count of today's updates; remove it to begin anew, this day's updates uncounted"
        )
