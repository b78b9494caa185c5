"""A daily window of time in which the machine may work, such as 22-6. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime

HOURS_RULE = "FROM-TO in local time, as hours or HH:MM, such as 22-6 or 8:30-17"
_DAY = 24 * 60
_TIME = r"(\d{1,2})(?::(\d{2}))?"
_WINDOW = re.compile(rf"\s*{_TIME}\s*-\s*{_TIME}\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Hours:
    """From `start` up to but not including `end`, in minutes of the local day, over midnight if `end` is not later.

    `start` is from 0 to 1439, `end` from 1 to 1440.
    """

    start: int
    end: int

    def contains(self, local: datetime) -> bool:
        """Say whether a local time lies in the window."""
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def seconds_until_open(self, local: datetime) -> float:
        """Return how long to wait from a local time until the window is open; 0 if it is."""
        if self.contains(local):
            return 0.0
        minutes = (self.start - local.hour * 60 - local.minute) % _DAY
        return minutes * 60.0 - local.second - local.microsecond / 1e6

    def __str__(self) -> str:
        return f"{_written(self.start)}-{_written(self.end)}"


def parse_hours(text: str) -> Hours:
    """Read a window.

    Raises:
        ValueError: if it is not `HOURS_RULE`, or begins and ends at the same time.
    """
    match = _WINDOW.fullmatch(text)
    if match is None:
        raise ValueError(f"wanted {HOURS_RULE}")
    start, end = (_minute(match.group(i), match.group(i + 1)) for i in (1, 3))
    if start % _DAY == end % _DAY and (start, end) != (0, _DAY):
        raise ValueError("the hours begin and end at the same time; leave them out for no limit")
    return Hours(start % _DAY, end or _DAY)


def _minute(hour: str, minute: str | None) -> int:
    minutes = int(hour) * 60 + int(minute or 0)
    if minutes > _DAY or int(minute or 0) > 59:
        raise ValueError(f"there is no time {hour}:{minute or '00'}; wanted {HOURS_RULE}")
    return minutes


def _written(minutes: int) -> str:
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}" if minute else str(hour)
