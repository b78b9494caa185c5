"""A wire of its own between two network namespaces, that loses packets, is cut, or is thin. Linux, root, iptables."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

NETWORK = "198.18"
"""The block for tests of devices, RFC 2544."""


_NUMBERS = itertools.count()


class Wire:
    """A pair of virtual devices; the coordinator is behind the far one."""

    def __init__(self) -> None:
        process, number = os.getpid(), next(_NUMBERS)
        self._namespace = f"fed-{process}-{number}"
        self._near, self._far = f"fc{process}-{number}a", f"fc{process}-{number}b"
        self._here, self.there = (f"{NETWORK}.{(process + number) % 256}.{end}" for end in (1, 2))
        self.prefix = ("ip", "netns", "exec", self._namespace)
        """What starts a command at the far end, which has the address `there`."""

    def lay(self) -> None:
        """Make the namespace, the devices, and their addresses."""
        _run("ip", "netns", "add", self._namespace)
        _run("ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far)
        _run("ip", "link", "set", self._far, "netns", self._namespace)
        _run("ip", "address", "add", f"{self._here}/30", "dev", self._near)
        _run("ip", "link", "set", self._near, "up")
        for command in (["address", "add", f"{self.there}/30", "dev", self._far], ["link", "set", self._far, "up"]):
            _run(*self.prefix, "ip", *command)
        _run(*self.prefix, "ip", "link", "set", "lo", "up")

    def remove(self) -> None:
        """Take everything away; the devices go with the namespace."""
        _run("ip", "netns", "delete", self._namespace)

    @contextmanager
    def losing(self, share: float, *, requests: bool = True, replies: bool = True) -> Iterator[None]:
        """Lose a share of the packets that come to this end, or leave it, for as long as the block runs."""
        statistic = ["-m", "statistic", "--mode", "random", "--probability", f"{share}"] if share < 1 else []
        rules = [["OUTPUT", "-o", self._near]] if requests else []
        rules += [["INPUT", "-i", self._near]] if replies else []
        with ExitStack() as stack:
            for rule in rules:
                _run("iptables", "-w", "-I", *rule, *statistic, "-j", "DROP")
                stack.callback(_run, "iptables", "-w", "-D", *rule, *statistic, "-j", "DROP")
            yield

    @contextmanager
    def thin(self, kilobits_per_second: int) -> Iterator[None]:
        """Let so much through, each way, for as long as the block runs."""
        shape = ["root", "tbf", "rate", f"{kilobits_per_second}kbit", "burst", "4kb", "latency", "400ms"]
        with ExitStack() as stack:
            for prefix, device in ((), self._near), (self.prefix, self._far):
                _run(*prefix, "tc", "qdisc", "add", "dev", device, *shape)
                stack.callback(_run, *prefix, "tc", "qdisc", "delete", "dev", device, "root")
            yield


@contextmanager
def wire() -> Iterator[Wire]:
    """Lay a wire; it is gone after the block."""
    laid = Wire()
    with ExitStack() as stack:
        stack.callback(laid.remove)
        laid.lay()
        yield laid


@cache
def why_no_wire() -> str | None:
    """Say why there can be no such wire on this machine, None if there can."""
    if os.geteuid() != 0:
        return "a wire of its own needs root"
    try:
        with wire() as laid, laid.losing(0.1), laid.thin(1000):
            return None
    except (OSError, subprocess.CalledProcessError) as error:
        return f"no wire of its own on this machine: {error}"


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
