"""What a command returns to the shell."""

from fed_compute.errors import CallRefused, FedComputeError, Misuse, NotNow, Refused

DONE, FAILED, MISUSED, REFUSED, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 130, 143

EXIT_CODES = {
    DONE: "done, or ended in order",
    FAILED: "something broke, or what was checked is not well",
    MISUSED: "asked for something that cannot be done here: an option, a setting, a file",
    REFUSED: "the coordinator refused, or does not answer",
    INTERRUPTED: "interrupted by Ctrl-C (SIGINT)",
    TERMINATED: "ended by SIGTERM",
}
"""Every exit code and what it means. `docs/reference/exit-codes.md` says more."""


def exit_code(error: FedComputeError) -> int:
    """Return the exit code that stands for an error."""
    match error:
        case CallRefused() | NotNow():
            return REFUSED
        case Misuse() | Refused():
            return MISUSED
    return FAILED


def in_short() -> str:
    """Return the codes and their meanings in one sentence."""
    return ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
