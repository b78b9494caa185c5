"""What a measurement of a machine means. Pure: whoever measured it hands the numbers in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MEBIBYTE = 1 << 20
SERVE_SPACE_BYTES = 1 << 30
"""A coordinator with less room than this may fill its disk within days."""
LEAST_SPACE_BYTES = 100 * MEBIBYTE
"""With less room than this the next model or update may not fit."""
SERVE_MEMORY_BYTES, JOIN_MEMORY_BYTES, LEAST_MEMORY_BYTES = 512 * MEBIBYTE, 1 << 30, 128 * MEBIBYTE

FIRST_YEAR, LAST_YEAR = 2025, 2100
"""A clock that shows a year before the product's first version, or far after it, was never set."""

SKEW_SECONDS, WORST_SKEW_SECONDS = 5.0, 30.0
"""How far two clocks may differ: a `Date` header has whole seconds, and a lease is a minute or so."""
STEP_SECONDS = 0.05
CERTIFICATE_DAYS = 14.0
DAY_SECONDS = 86_400.0


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what was found, and what to do if it is not well."""

    check: str
    level: Level
    found: str
    advice: str = ""


def well(check: str, found: str) -> Finding:
    """Return a finding that needs nothing."""
    return Finding(check, Level.OK, found)


def warn(check: str, found: str, advice: str) -> Finding:
    """Return a finding that will do for now."""
    return Finding(check, Level.WARN, found, advice)


def bad(check: str, found: str, advice: str) -> Finding:
    """Return a finding with which it will not work."""
    return Finding(check, Level.BAD, found, advice)


def judge_python(found: tuple[int, int, int], *, wanted: tuple[int, int]) -> Finding:
    """Judge the interpreter's version."""
    text = ".".join(str(part) for part in found)
    if found[:2] < wanted:
        return bad("python", f"Python {text}", f"install Python {wanted[0]}.{wanted[1]} or newer")
    return well("python", f"Python {text}")


def judge_packages(found: Mapping[str, tuple[str | None, bool]]) -> Finding:
    """Judge packages by name: their version, None if not installed, and whether that version fits."""
    wrong = [f"{name} {version or 'is missing'}" for name, (version, fits) in sorted(found.items()) if not fits]
    if wrong:
        return bad("packages", ", ".join(wrong), "install anew: pip install --upgrade --force-reinstall fed-compute")
    return well("packages", f"all {len(found)} that are needed fit")


def judge_port(host: str, port: int, *, refusal: str | None, owner: str | None) -> Finding:
    """Judge whether an address can be listened on. `refusal` is why not, `owner` who has it, if that is known."""
    where = f"{port} on {host}"
    if refusal is None:
        return well("port", "a free one will be taken" if port == 0 else f"{where} is free")
    if owner is not None:
        return bad("port", f"{where} is taken by {owner}", "stop that program, or take another port with --port")
    return bad(
        "port", f"{where} cannot be had: {refusal}", "stop the program that has it, or choose with --port, --host"
    )


def judge_space(check: str, where: str, *, free_bytes: int, wanted_bytes: int, free_files: int | None) -> Finding:
    """Judge the room on a disk: bytes, and files if the disk counts them."""
    found = f"{size(free_bytes)} free on the disk of {where}"
    if free_files is not None and free_files < 1000:
        return bad(check, f"{found}, but only {free_files} more files fit", "remove files, or use another disk")
    if free_bytes < min(LEAST_SPACE_BYTES, wanted_bytes):
        return bad(check, f"no space: {found}", f"make room: {size(wanted_bytes)} are wanted, or use another disk")
    if free_bytes < wanted_bytes:
        return warn(check, found, f"{size(wanted_bytes)} are wanted; what does not fit is refused, not lost")
    return well(check, found)


def judge_memory(*, available_bytes: int | None, wanted_bytes: int) -> Finding:
    """Judge the memory that new programs can have; None if the system does not tell."""
    if available_bytes is None:
        return warn("memory", "this system does not tell", f"{size(wanted_bytes)} are wanted")
    found = f"{size(available_bytes)} available"
    if available_bytes < LEAST_MEMORY_BYTES:
        return bad("memory", found, f"{size(wanted_bytes)} are wanted; end other programs")
    if available_bytes < wanted_bytes:
        return warn("memory", found, f"{size(wanted_bytes)} are wanted; large models will not fit")
    return well("memory", found)


def judge_year(year: int) -> Finding:
    """Judge the calendar of this machine."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return bad("clock", f"wrong clock: it shows the year {year}", "set it, best by NTP: timedatectl set-ntp true")
    return well("clock", f"it shows the year {year}")


def judge_pace(*, wall_seconds: float, steady_seconds: float) -> Finding:
    """Judge whether the wall clock went as fast as the steady one while both were watched."""
    difference = wall_seconds - steady_seconds
    if abs(difference) > STEP_SECONDS:
        return warn(
            "clock pace",
            f"the clock jumped by {difference:+.2f} s while it was watched",
            "something sets it; let one time service do that, slowly",
        )
    return well("clock pace", "it goes evenly")


def judge_time_service(is_synchronised: bool | None) -> Finding:
    """Judge what the kernel says of the time service; None if it does not tell."""
    if is_synchronised is None:
        return well("time service", "this system does not tell")
    if not is_synchronised:
        return warn("time service", "the kernel says that none sets the clock", "start one: timedatectl set-ntp true")
    return well("time service", "the clock is set by one")


def judge_skew(*, skew_seconds: float | None) -> Finding:
    """Judge how far the coordinator's clock is ahead of this one; None if it sends no date."""
    if skew_seconds is None:
        return warn(
            "clock skew", "the coordinator's answers have no date", "a proxy may take it out; nothing depends on it"
        )
    if abs(skew_seconds) <= SKEW_SECONDS:
        return well("clock skew", "both clocks agree within a few seconds")
    way = "behind" if skew_seconds > 0 else "ahead of"
    found = f"this clock is {span_of(abs(skew_seconds))} {way} the coordinator's"
    if abs(skew_seconds) <= WORST_SKEW_SECONDS:
        return warn("clock skew", found, "let a time service set both clocks")
    return bad("clock skew", f"wrong clock: {found}", "see which one is wrong (`date -u`), and set it by NTP")


def judge_certificate(*, seconds_left: float) -> Finding:
    """Judge a TLS certificate that was accepted by the time it has left."""
    days = seconds_left / DAY_SECONDS
    if days < CERTIFICATE_DAYS:
        return warn("certificate", f"it ends in {days:.1f} days", "whoever runs the coordinator should renew it now")
    return well("certificate", f"good for {days:.0f} days")


def judge_protocol(*, spoken: int, lowest: int, highest: int) -> Finding:
    """Judge whether this program and a coordinator understand each other."""
    theirs = f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
    if spoken < lowest:
        return bad("protocol", f"this program speaks {spoken}, the coordinator {theirs}", "upgrade fed-compute here")
    if spoken > highest:
        return bad(
            "protocol",
            f"this program speaks {spoken}, the coordinator {theirs}",
            "install the coordinator's version here, or ask for an upgrade there",
        )
    return well("protocol", f"both speak {spoken}")


def judge_key_form(check: str, text: str, *, is_whole: bool) -> Finding | None:
    """Judge a key before anybody is asked; None if its form is good. The text is not repeated."""
    if is_whole:
        return None
    if not text:
        return bad(check, "bad key: it is empty", "put the key that registration gave into the file")
    if text.startswith("inv_"):
        return bad(check, "bad key: this is an invitation", "join with it: fed-compute join URL --invite …")
    if text.startswith("sk_"):
        return bad(
            check,
            "bad key: its checksum is wrong",
            "a character is missing, added or mistyped; copy the whole key again",
        )
    return bad(check, "bad key: this is no key", "a key begins with sk_ and has 63 characters")


STAFF_KEY = "staff_key"

KEY_ANSWERS: Mapping[str, tuple[Level, str, str]] = {
    "authentication_failed": (
        Level.BAD,
        "bad key: the coordinator does not know it",
        "it is of another coordinator, was revoked, or has expired; ask for a new one, or register anew",
    ),
    STAFF_KEY: (
        Level.BAD,
        "bad key: it is an operator's or observer's",
        "a client has a key of its own; without one it registers when it joins",
    ),
    "client_banned": (Level.BAD, "bad key: its client is banned here", "ask whoever runs the coordinator"),
    "client_pending": (
        Level.WARN,
        "the key is good, and its client waits for approval",
        "ask whoever runs the coordinator; a client that has joined waits by itself",
    ),
    "rate_limited": (Level.WARN, "the coordinator looks at no keys of this network now", "try again in a minute"),
    "task_not_found": (Level.OK, "the coordinator knows it", ""),
}
"""What it means for the key when somebody asks for a task that does not exist."""


def judge_key_answer(check: str, code: str) -> Finding:
    """Judge a key by the code of the coordinator's answer to it."""
    level, found, advice = KEY_ANSWERS.get(
        code, (Level.WARN, f"the coordinator could not say ({code})", "try again in a minute")
    )
    return Finding(check, level, found, advice)


def judge_settings(wrong: Sequence[tuple[str, str]], *, unknown: Sequence[tuple[str, str | None]]) -> list[Finding]:
    """Judge the environment: each variable that cannot be used with the reason, each unknown one with a known name."""
    findings = [bad("settings", f"{name}: {why}", "change it, or unset it") for name, why in wrong]
    for name, nearest in unknown:
        hint = f"did you mean {nearest}?" if nearest else "unset it, if it was meant for fed-compute"
        findings.append(warn("settings", f"{name} is no setting and does nothing", hint))
    return findings or [well("settings", "every variable can be used")]


def judge_owner(check: str, path: str, *, owner_id: int, own_id: int) -> Finding | None:
    """Judge whose a folder is; None if it is one's own."""
    if own_id in (owner_id, 0):
        return None
    return bad(
        check, f"{path} belongs to user {owner_id}, you are {own_id}", f"chown -R {own_id} {path}, or choose another"
    )


def judge_secret_modes(check: str, modes: Mapping[str, int]) -> Finding | None:
    """Judge files with secrets by their modes; None if nobody but their owner can read them."""
    for path, mode in sorted(modes.items()):
        if mode & 0o077:
            return bad(
                check,
                f"others can read {path}, its mode is {mode:04o}",
                f"chmod 600 {path}, and renew what is in it if others use this machine",
            )
    return None


def size(num_bytes: int) -> str:
    """Return a number of bytes for people."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", MEBIBYTE), ("KiB", 1 << 10)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:,.1f} {unit}"
    return f"{num_bytes} B"


def span_of(seconds: float) -> str:
    """Return a difference of clocks for people."""
    for unit, factor in (("days", DAY_SECONDS), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * factor:
            return f"{seconds / factor:.1f} {unit}"
    return f"{seconds:.0f} seconds"
