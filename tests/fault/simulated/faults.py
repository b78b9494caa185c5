"""What can go wrong at a persistence call, and what of the unsynced bytes a crash leaves behind."""

from enum import StrEnum


class PowerCut(BaseException):
    """The machine stopped at this call. No `Exception`: whatever the product catches, it must not catch this."""


class Fault(StrEnum):
    """What becomes of one persistence call."""

    DIE_BEFORE = "die before"
    """The machine stops, the call was never made."""
    DIE_AFTER = "die after"
    """The call is made, then the machine stops; nobody hears of it."""
    ERROR = "error"
    """The call fails (EIO, ENOSPC, SQLITE_FULL) and the machine goes on."""
    TORN = "torn write"
    """The machine stops in the middle of the call."""


class Loss(StrEnum):
    """What a crash leaves of names and bytes that were not synced."""

    ALL = "everything unsynced is gone"
    SOME = "each unsynced name by a toss; unsynced bytes whole, cut, or zeros from some place on"
    NONE = "only the process died; the system still has every byte"
