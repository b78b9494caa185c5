"""The words for things: identifiers and how they are written."""

import re
import secrets
from typing import NewType

ClientId = NewType("ClientId", str)
JobId = NewType("JobId", int)
RoundId = NewType("RoundId", int)
TaskId = NewType("TaskId", str)
UpdateId = NewType("UpdateId", int)
AuditId = NewType("AuditId", int)
TeamId = NewType("TeamId", int)
Digest = NewType("Digest", str)
"""SHA-256 in lower-case hexadecimal, 64 characters."""

DEFAULT_JOB = "default"
CLIENT_NAME_RULE = "1 to 64 characters: letters, digits, dot, dash, underscore; the first a letter or digit"
LONGEST_TEAM_NAME = 40
TEAM_NAME_RULE = "1 to 40 characters: letters, digits, dot, dash, underscore; the first a letter or digit"
_CLIENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_JOB_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_VERSION = re.compile(r"v([1-9][0-9]{0,8})")


def is_client_name(text: str) -> bool:
    """Say whether `text` may name a client, by `CLIENT_NAME_RULE`."""
    return _CLIENT_NAME.fullmatch(text) is not None


def is_job_name(text: str) -> bool:
    """Say whether `text` may name a job: lower-case letters, digits, dash, underscore, at most 64."""
    return _JOB_NAME.fullmatch(text) is not None


def new_task_id() -> TaskId:
    """Return a task id that cannot be guessed: 96 random bits."""
    return TaskId(f"t_{secrets.token_hex(12)}")


def new_task_ids(count: int) -> list[TaskId]:
    """Return as many task ids as `new_task_id` would one by one."""
    digits = secrets.token_hex(12 * count)
    return [TaskId(f"t_{digits[24 * place : 24 * (place + 1)]}") for place in range(count)]


def new_team_code() -> str:
    """Return a code to join a team with, which cannot be guessed: 96 random bits."""
    return f"team_{secrets.token_hex(12)}"


def is_team_name(text: str) -> bool:
    """Say whether `text` may name a team: as a client's name, at most 40 characters."""
    return len(text) <= LONGEST_TEAM_NAME and is_client_name(text)


def format_version(number: int) -> str:
    """Write a model version as the API shows it: 3 becomes `v3`."""
    return f"v{number}"


def parse_version(text: str) -> int:
    """Read a model version.

    Raises:
        ValueError: if `text` is not `v` and a positive whole number.
    """
    match = _VERSION.fullmatch(text)
    if match is None:
        raise ValueError(f"a model version looks like v1, got {text[:40]!r}")
    return int(match.group(1))
