"""The processes of a demonstration: started, killed, brought back, and always ended."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pydantic import AliasChoices
from pydantic_settings import BaseSettings

from fed_compute.cli.demo.child import CLIENT
from fed_compute.cli.demo.places import Places
from fed_compute.cli.demo.plan import DemoPlan
from fed_compute.cli.serve import LISTENING
from fed_compute.client.config import ClientSettings
from fed_compute.clock import Clock
from fed_compute.errors import DemoFailed

COORDINATOR = "coordinator"
START_SECONDS = 120.0
STOP_SECONDS = 5.0
SHOWN_LOG_LINES = 15
_LOOK_SECONDS = 0.05
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")


@dataclass(slots=True)
class Child:
    """One running program. `expected` says that its end is no surprise."""

    name: str
    process: subprocess.Popen[bytes]
    expected: bool = False


class Fleet:
    """One coordinator and its clients, each a process of its own. Leaving the `with` block ends them all."""

    def __init__(self, plan: DemoPlan, places: Places, clock: Clock, environment: Mapping[str, str]) -> None:
        self._plan = plan
        self._places = places
        self._clock = clock
        self._environment = child_environment(environment)
        self._children: dict[str, Child] = {}
        self._url = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def logs(self) -> str:
        """Where the programs' logs lie."""
        return str(self._places.log_of(COORDINATOR).parent)

    def start_coordinator(self) -> str:
        """Start the coordinator on a free port and return its URL as soon as it answers.

        Raises:
            DemoFailed: if it ends or says nothing.
        """
        self._places.job_file.write_text(self._plan.job_text(), encoding="utf-8")
        folders = ["--data-dir", str(self._places.data_dir), "--job", str(self._places.job_file)]
        self._start(COORDINATOR, ["serve", "--host", "127.0.0.1", "--port", "0", *folders], {})
        until = self._clock.monotonic() + START_SECONDS
        while not (url := self._announced_url()):
            self.check()
            if self._clock.monotonic() > until:
                raise DemoFailed(f"the coordinator did not start within {START_SECONDS:.0f} s", self._tail(COORDINATOR))
            self._clock.sleep(_LOOK_SECONDS)
        self._url = url
        return url

    def start_client(self, name: str) -> None:
        """Start a client, or start it again: it is then the same one, for its credential was kept."""
        settings = {
            "COORDINATOR_URL": self._url,
            "CLIENT_NAME": name,
            "CLIENT_DATA": self._plan.data_of(name),
            "CLIENT_STATE_DIR": str(self._places.state_of(name).resolve()),
            "CLIENT_DEVICE": "cpu",
            "CLIENT_THREADS": "1",
        }
        self._start(name, [CLIENT], settings)

    def kill(self, name: str) -> None:
        """End a client as a power cut would: at once, and without a word to anybody."""
        child = self._children[name]
        child.expected = True
        child.process.kill()
        child.process.wait()

    def check(self) -> None:
        """Return if every program that should run does.

        Raises:
            DemoFailed: naming the first that ended by itself, with the last lines of its log.
        """
        for child in self._children.values():
            if not child.expected and (code := child.process.poll()) is not None:
                raise DemoFailed(f"{child.name} {_how_it_ended(code)}, which nobody asked for", self._tail(child.name))

    def stop(self) -> None:
        """End the clients, then the coordinator, and return when nothing runs any more."""
        try:
            clients = [child for name, child in self._children.items() if name != COORDINATOR]
            for group in (clients, [child for name, child in self._children.items() if name == COORDINATOR]):
                self._end(group)
        finally:
            for child in self._children.values():
                child.expected = True
                child.process.kill()
                child.process.wait()
                if child.process.stdin is not None:
                    child.process.stdin.close()

    def _end(self, children: list[Child]) -> None:
        for child in children:
            child.expected = True
            child.process.terminate()
        until = self._clock.monotonic() + STOP_SECONDS
        for child in children:
            with suppress(subprocess.TimeoutExpired):
                child.process.wait(max(0.0, until - self._clock.monotonic()))

    def _start(self, name: str, arguments: list[str], settings: Mapping[str, str]) -> None:
        command = [sys.executable, "-m", "fed_compute.cli.demo.child", *arguments]
        with self._places.log_of(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program, our own words
                command,
                stdin=subprocess.PIPE,  # never written to; its end tells the child that we are gone
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, **settings},
                start_new_session=True,  # Ctrl-C is for us; we end them in order
            )
        old = self._children.get(name)
        if old is not None and old.process.stdin is not None:
            old.process.stdin.close()
        self._children[name] = Child(name, process)

    def _announced_url(self) -> str:
        for line in self._log_lines(COORDINATOR):
            if line.startswith(LISTENING):
                return line.removeprefix(LISTENING).strip()
        return ""

    def _tail(self, name: str) -> str:
        log, lines = self._places.log_of(name), self._log_lines(name)[-SHOWN_LOG_LINES:]
        return (
            "\n".join([f"the last lines of {log}:", *(f"  {line}" for line in lines)]) if lines else f"{log} is empty"
        )

    def _log_lines(self, name: str) -> list[str]:
        return self._places.log_of(name).read_text(encoding="utf-8", errors="replace").splitlines()


def child_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a coordinator and its clients meet on this machine and nothing else counts.

    Whatever the user has set for coordinators and clients of their own is left out. One thread each,
    so that training is repeatable and many clients share few cores.
    """
    from fed_compute.coordinator.settings import PREFIX, CoordinatorSettings  # loads the coordinator's libraries

    ours = _names_of(ClientSettings) | _names_of(CoordinatorSettings)
    kept = {
        name: value
        for name, value in environment.items()
        if name.upper() not in ours and not name.upper().startswith(PREFIX) and name not in _COLOURS
    }
    return kept | {
        **dict.fromkeys(_THREADS, "1"),
        "NO_COLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
        "SLEEP_BETWEEN_ROUNDS": "0",
        "RETRY_DELAY": "0.2",
        "FED_COMPUTE_REQUESTS_PER_MINUTE": "1000000",
        "FED_COMPUTE_UPDATES_PER_MINUTE": "1000000",
        "FED_COMPUTE_SHUTDOWN_SECONDS": "1",
    }


def _names_of(settings: type[BaseSettings]) -> set[str]:
    """Return every environment variable that sets a field, in capitals."""
    prefix = settings.model_config.get("env_prefix", "")
    names: set[str] = set()
    for name, field in settings.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            names |= {choice.upper() for choice in field.validation_alias.choices if isinstance(choice, str)}
        else:
            names.add(f"{prefix}{name}".upper())
    return names


def _how_it_ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
