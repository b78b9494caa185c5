"""Work that several processes take pieces of: a pipe full of numbers. Who is free reads the next one."""

import os

NUMBER_BYTES = 4
NOTHING_LEFT = 2**32 - 1
"""A number of no work."""
_MOST_NUMBERS = 4_096  # what the smallest pipe holds
_EMPTY = b""


class WorkQueue:
    """Numbers from 0 on, each of which one process takes. `take_fd` is for the others."""

    def __init__(self) -> None:
        self.take_fd, self._put_fd = os.pipe()
        os.set_blocking(self.take_fd, False)

    def fill(self, count: int) -> int:
        """Put numbers in for `count` pieces of work, and return how many pieces each number stands for."""
        each = max(1, -(-count // _MOST_NUMBERS))
        numbers = range(-(-count // each))
        os.write(self._put_fd, b"".join(as_bytes(number) for number in numbers))
        return each

    def close(self) -> None:
        """Close it; whoever takes from it finds nothing any more."""
        os.close(self.take_fd)
        os.close(self._put_fd)


def as_bytes(number: int) -> bytes:
    """Return a number as processes tell it each other."""
    return number.to_bytes(NUMBER_BYTES)


def take(fd: int) -> int | None:
    """Return the next number, or None if there is none."""
    try:
        found = os.read(fd, NUMBER_BYTES)
    except BlockingIOError:
        return None
    return int.from_bytes(found) if found != _EMPTY else None
