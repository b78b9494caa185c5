"""Looking at a coordinator from here: its name, port, certificate, protocol, clock, and what it says to a key."""

import socket
import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from fed_compute.cli.doctor import judgements as judge
from fed_compute.cli.doctor.judgements import Finding, bad, warn, well
from fed_compute.client.answers import printable
from fed_compute.client.security import CredentialStore
from fed_compute.clock import Clock
from fed_compute.coordinator.keys import parse_key
from fed_compute.errors import CredentialUnsafe
from fed_compute.protocol.messages import PROTOCOL_HEADER, PROTOCOL_VERSION

TIMEOUT_SECONDS = 10.0
NO_TASK = f"t_{'0' * 24}"
"""The form of a task's id, and no task has it: asking for it tells whether a key is good, and does nothing."""

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Keys:
    """Where a client's key may be: a file that was named, the environment, or the state folder."""

    file: Path | None
    given: str | None
    state_dir: Path
    client_name: str | None


def look_at_coordinator(url: str, keys: Keys, clock: Clock) -> Iterator[Finding]:
    """Yield what is found on the way to a coordinator, up to the first thing that ends the way."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    way: list[Callable[[str, int], Finding]] = [_name, _connection]
    if parts.scheme == "https":
        way.append(partial(_certificate, now=clock.now()))
    for step in way:
        finding = step(host, port)
        yield finding
        if finding.level == "bad":
            return
    with httpx2.Client(base_url=url, timeout=TIMEOUT_SECONDS, trust_env=True) as http:
        try:
            yield from _coordinator(http, keys, clock)
        except httpx2.RequestError as error:
            found = f"it stopped answering: {error or type(error).__name__}"
            yield bad("coordinator", found, "look at its log, and at proxies on the way")


def _name(host: str, port: int) -> Finding:
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    except OSError as error:
        why = f"the name {host} leads nowhere: {error.strerror or error}"
        return bad("name", why, "check the spelling, and this machine's DNS and network")
    return well("name", f"{host} is {', '.join(sorted(map(str, found)))}")


def _connection(host: str, port: int) -> Finding:
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS):
            return well("connection", f"port {port} answers")
    except OSError as error:
        why = f"port {port} of {host} does not answer: {error.strerror or error}"
        return bad("connection", why, "is the coordinator running, and does a firewall let this port through?")


def _certificate(host: str, port: int, *, now: float) -> Finding:
    advice = "the coordinator needs a valid certificate for this name; a private one is trusted by SSL_CERT_FILE"
    try:
        with (
            socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=host) as secure,
        ):
            ends_at = ssl.cert_time_to_seconds(str((secure.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        return bad("certificate", f"it is not accepted: {error.verify_message}", advice)
    except OSError as error:  # an SSLError too: what answers speaks no TLS
        return bad(
            "certificate", f"no TLS on port {port}: {error.strerror or error}", "is the address http:// instead?"
        )
    return judge.judge_certificate(seconds_left=ends_at - now)


def _coordinator(http: httpx2.Client, keys: Keys, clock: Clock) -> Iterator[Finding]:
    began = clock.now()
    answer = http.get("/", headers={"Accept": "application/json"})
    middle = (began + clock.now()) / 2
    about = _document(answer)
    if about.get("name") != "fed-compute" or not isinstance(about.get("protocol"), dict):
        found = f"what answers is no fed-compute coordinator (status {answer.status_code})"
        yield bad("coordinator", found, "check the address; a proxy may lead elsewhere")
        return
    yield _readiness(about)
    spoken = about["protocol"]
    yield judge.judge_protocol(
        spoken=PROTOCOL_VERSION, lowest=int(spoken.get("lowest", 0)), highest=int(spoken.get("highest", 0))
    )
    yield judge.judge_skew(skew_seconds=_skew(answer, at=middle))
    yield from _key(http, keys)


def _readiness(about: dict[str, Any]) -> Finding:
    version, status = printable(str(about.get("version"))[:40]), about.get("status")
    if status == "draining":
        return warn("coordinator", f"version {version}, about to stop", "wait until it is back")
    return well("coordinator", f"version {version}, {'no job yet' if about.get('job') is None else 'has work'}")


def _skew(answer: httpx2.Response, *, at: float) -> float | None:
    """Return how far the coordinator's clock is ahead, in seconds; None if its answer has no date."""
    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp() - at
    except (KeyError, ValueError):
        return None


def _key(http: httpx2.Client, keys: Keys) -> Iterator[Finding]:
    check = "key"
    try:
        found = _find(keys, str(http.base_url).rstrip("/"))
    except (CredentialUnsafe, OSError, UnicodeDecodeError) as error:
        yield bad(check, f"it cannot be read: {error}", "name its file with --key-file")
        return
    if found is None:
        yield well(check, "none yet; the first join registers and keeps one")
        return
    modes = {} if keys.file is None else {str(keys.file): stat.S_IMODE(keys.file.stat().st_mode)}
    wrong = judge.judge_secret_modes(check, modes) or judge.judge_key_form(
        check, found, is_whole=parse_key(found) is not None
    )
    yield wrong or judge.judge_key_answer(check, _code_of(http, found))


def _find(keys: Keys, url: str) -> str | None:
    """Return the key that a client would use here; None if it would register.

    Raises:
        CredentialUnsafe, OSError, UnicodeDecodeError: if a file cannot be used.
    """
    if keys.file is not None:
        return keys.file.read_text(encoding="utf-8").strip()
    if keys.given is not None:
        return keys.given
    credential = CredentialStore(keys.state_dir).find(url, keys.client_name)
    return None if credential is None else credential.api_key


def _code_of(http: httpx2.Client, key: str) -> str:
    """Return the coordinator's word on a key, as a code; `STAFF_KEY` for one that is good and no client's."""
    headers = {"Authorization": f"Bearer {key}", PROTOCOL_HEADER: str(PROTOCOL_VERSION)}
    answer = http.get(f"/tasks/{NO_TASK}/audited", headers=headers)
    if answer.status_code == 401 and http.get("/admin/keys", params={"limit": 1}, headers=headers).is_success:
        return judge.STAFF_KEY
    return printable(str(_document(answer).get("code", f"status {answer.status_code}"))[:80])


def _document(answer: httpx2.Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
