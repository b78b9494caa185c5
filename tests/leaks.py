"""A watch over the whole run of the tests: no key and no invitation may lie about when it is over.

Looked at are what each test printed and logged, and every file below the run's temporary folder: logs, databases,
blobs. Only files that are made to hold a key, and that nobody but their owner can read, may hold one. A find fails the
run, with the place and without the secret.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fed_compute.coordinator.keys import parse_invite, parse_key

_LOOKS_LIKE_ONE = re.compile(rb"sk_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}|inv_[0-9A-Za-z]{10}_[0-9A-Za-z]{28}")
_MADE_FOR_KEYS = ("operator.key", "*.key", "credentials/*.json", "*.tar")
_BLOCK_BYTES = 1 << 20
_LONGEST_BYTES = 80


def holds_secret(text: bytes) -> bool:
    """Say whether a whole key or invitation, of the right checksum, stands anywhere in the text."""
    found = (match.group().decode() for match in _LOOKS_LIKE_ONE.finditer(text))
    return any(parse_key(secret) or parse_invite(secret) for secret in found)


def may_hold_key(path: Path) -> bool:
    """Say whether a file is made for a key and closed to everybody but its owner."""
    private = stat.S_IMODE(path.stat().st_mode) & (stat.S_IRWXG | stat.S_IRWXO) == 0
    return private and any(path.match(pattern) for pattern in _MADE_FOR_KEYS)


def file_holds_secret(path: Path) -> bool:
    """Look through a file of any size in blocks, so that what lies across two of them is seen too."""
    with path.open("rb") as file:
        end = b""
        while block := file.read(_BLOCK_BYTES):
            if holds_secret(end + block):
                return True
            end = block[-_LONGEST_BYTES:]
    return False


def leaking_files(folder: Path) -> Iterator[Path]:
    """Yield every file below a folder that holds a secret and should not."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and not may_hold_key(path) and file_holds_secret(path):
            yield path


class Watch:
    """Notes what leaks during a run, and fails the run at its end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._finds: dict[str, None] = {}  # each place once: a later report of a test repeats what an earlier one told

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look through what a test printed and logged."""
        for title, text in report.sections:
            if holds_secret(text.encode(errors="replace")):
                self._finds[f"{report.nodeid}: {title.lower()}"] = None

    @pytest.hookimpl(tryfirst=True)  # before pytest clears its folders away
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Look through the files that the run left behind."""
        factory: pytest.TempPathFactory | None = getattr(self._config, "_tmp_path_factory", None)
        if factory is not None:
            base = factory.getbasetemp()
            self._finds |= {f"file {path.relative_to(base)}": None for path in leaking_files(base)}
        if self._finds:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where a secret was found."""
        if self._finds:
            terminalreporter.section("secrets in the open", red=True)
            for find in self._finds:
                terminalreporter.line(f"A whole key or invitation lies in: {find}", red=True)


def pytest_configure(config: pytest.Config) -> None:
    """Begin to watch."""
    config.pluginmanager.register(Watch(config), "watch-for-secrets")
