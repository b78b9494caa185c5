"""`fed-compute doctor` on machines that are really broken: each thing is called by its name."""

import datetime
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fed_compute.cli.main import main
from fed_compute.coordinator.keys import new_key
from tests.acceptance.conftest import TLS, Serve, Served

Doctor = Callable[..., dict[str, Any]]


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str]) -> Doctor:
    """Return how to run the command: each check's finding by name; the exit code says whether one is bad."""

    def run(*arguments: str) -> dict[str, Any]:
        code = main(["doctor", "--json", *arguments])
        document = json.loads(capsys.readouterr().out)
        found = {one["check"]: one for one in document["findings"]}
        bad = [name for name, one in found.items() if one["level"] == "bad"]
        assert (code, document["well"]) == ((1, False) if bad else (0, True))
        return {**found, "bad": bad}

    return run


@pytest.fixture
def home(tmp_path: Path) -> list[str]:
    """Options that keep a client's files in a folder of the test."""
    return ["--state-dir", str(tmp_path / "state")]


@contextmanager
def in_background(server: ThreadingHTTPServer, scheme: str = "http") -> Iterator[str]:
    """Serve on a thread for as long as the block runs; give the address."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{scheme}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def relay_to(url: str, *, ahead_seconds: float) -> ThreadingHTTPServer:
    """Return a server that hands questions on, and whose clock is `ahead_seconds` ahead."""

    class Relay(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            key = {name: value for name, value in self.headers.items() if name in ("Authorization", "Accept")}
            answer = httpx2.get(f"{url}{self.path}", headers=key, verify=TLS)
            self.send_response(answer.status_code)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        def date_time_string(self, timestamp: float | None = None) -> str:
            moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead_seconds)
            return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")

        def log_message(self, *arguments: Any) -> None:
            """Say nothing."""

    return ThreadingHTTPServer(("127.0.0.1", 0), Relay)


def test_a_fresh_machine_can_serve(doctor: Doctor, tmp_path: Path) -> None:
    found = doctor("--data-dir", str(tmp_path / "data"), "--port", "0")
    assert found["bad"] == []
    assert not (tmp_path / "data").exists(), "the doctor changes nothing"


def test_a_taken_port_is_named_with_the_program_that_has_it(doctor: Doctor, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = doctor("--data-dir", str(tmp_path / "data"), "--port", str(port))
    assert found["bad"] == ["port"]
    assert f"{port} on 127.0.0.1 is taken by" in found["port"]["found"]
    assert f"(process {os.getpid()})" in found["port"]["found"]
    assert "--port" in found["port"]["advice"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one mebibyte."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False)
    if mounted.returncode != 0:
        pytest.skip("this container may not mount a disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_without_space_is_named(
    doctor: Doctor, small_disk: Path, served: Served, home: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = doctor("--data-dir", str(small_disk / "data"), "--port", "0")
    assert found["bad"] == ["disk"]
    assert "no space" in found["disk"]["found"]
    found = doctor("--url", served.url, "--state-dir", str(small_disk / "state"))
    assert found["bad"] == ["disk"]
    monkeypatch.setenv("CLIENT_SPOOL_MEGABYTES", "0.5")
    assert doctor("--url", served.url, "--state-dir", str(small_disk / "state"))["bad"] == []


@pytest.fixture(scope="module")
def served(serve_job: Serve) -> Served:
    return serve_job(registration="approval")


@pytest.mark.parametrize(("ahead_seconds", "words"), [(10_800.0, "behind"), (-10_800.0, "ahead of")])
def test_a_wrong_clock_is_named(
    doctor: Doctor, served: Served, home: list[str], ahead_seconds: float, words: str
) -> None:
    with in_background(relay_to(served.url, ahead_seconds=ahead_seconds)) as url:
        found = doctor("--url", url, *home)
    assert found["bad"] == ["clock skew"]
    assert f"wrong clock: this clock is 3.0 hours {words} the coordinator's" in found["clock skew"]["found"]


def test_a_machine_that_can_join_is_told_so_and_nothing_is_registered(
    doctor: Doctor, served: Served, home: list[str]
) -> None:
    before = served.records_digest()
    found = doctor("--url", served.url, *home)
    assert found["bad"] == []
    assert found["clock skew"]["level"] == "ok"
    assert "none yet" in found["key"]["found"]
    assert served.records_digest() == before


def client_key(served: Served, name: str, act: str | None) -> str:
    """Register a client, let the operator do something with it, and return its key."""
    key = str(served.http.post("/client/register", json={"client_name": name}).json()["api_key"])
    if act is not None:
        headers = {"Authorization": f"Bearer {served.operator_key}"}
        message = {"reason": "a test"} if act == "ban" else {}
        answer = served.http.post(f"/admin/clients/{name}/{act}", json=message, headers=headers)
        assert answer.status_code == 200, answer.text
    return key


@pytest.mark.parametrize(
    ("kind", "level", "words"),
    [
        ("mistyped", "bad", "bad key: its checksum is wrong"),
        ("unknown", "bad", "bad key: the coordinator does not know it"),
        ("banned", "bad", "bad key: its client is banned"),
        ("operator", "bad", "bad key: it is an operator's"),
        ("pending", "warn", "waits for approval"),
        ("good", "ok", "the coordinator knows it"),
    ],
)
def test_each_kind_of_key_is_told_apart(
    doctor: Doctor, served: Served, home: list[str], tmp_path: Path, kind: str, level: str, words: str
) -> None:
    if kind in ("banned", "pending", "good"):
        key = client_key(served, f"doctor-{kind}", {"banned": "ban", "pending": None, "good": "approve"}[kind])
    else:
        key = served.operator_key if kind == "operator" else new_key().write()
    if kind == "mistyped":
        key = key[:20] + ("x" if key[20] != "x" else "y") + key[21:]
    file = key_in(tmp_path, key)
    found = doctor("--url", served.url, "--key-file", str(file), *home)
    assert found["key"]["level"] == level
    assert words in found["key"]["found"]
    assert found["bad"] == (["key"] if level == "bad" else [])
    assert key not in json.dumps(found)


def test_a_key_file_that_others_can_read_is_named(
    doctor: Doctor, served: Served, home: list[str], tmp_path: Path
) -> None:
    file = key_in(tmp_path, "no real one")
    file.chmod(0o640)
    found = doctor("--url", served.url, "--key-file", str(file), *home)
    assert found["bad"] == ["key"]
    assert f"others can read {file}, its mode is 0640" in found["key"]["found"]


def key_in(folder: Path, key: str) -> Path:
    """Return a file of mode 0600 that holds a key."""
    file = folder / "client.key"
    file.touch(mode=0o600)
    file.write_text(f"{key}\n")
    return file


def test_a_coordinator_that_is_not_there_is_named_by_the_step_that_fails(
    doctor: Doctor, home: list[str], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert doctor("--url", f"http://127.0.0.1:{port}", *home)["bad"] == ["connection"]
    assert doctor("--url", "http://nowhere.invalid", *home)["bad"] == ["name"]


def test_something_else_behind_the_address_is_named(doctor: Doctor, home: list[str]) -> None:
    with in_background(ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)) as url:
        found = doctor("--url", url, *home)
    assert found["bad"] == ["coordinator"]
    assert "no fed-compute coordinator" in found["coordinator"]["found"]


def certificate_for(name: str, folder: Path, *, days: float) -> Path:
    """Return a file with a certificate that signs itself and ends in so many days, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    named = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(named)
        .issuer_name(named)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    form = serialization.PrivateFormat.PKCS8
    secret = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@pytest.mark.parametrize(
    ("name", "days", "is_trusted", "level", "words"),
    [
        ("localhost", 365.0, False, "bad", "self-signed"),
        ("localhost", -1.0, True, "bad", "expired"),
        ("other.example", 365.0, True, "bad", "match"),
        ("localhost", 3.0, True, "warn", "ends in"),
        ("localhost", 365.0, True, "ok", "good for"),
    ],
)
def test_a_certificate_is_judged(
    doctor: Doctor, served: Served, home: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    name: str, days: float, is_trusted: bool, level: str, words: str,
) -> None:  # fmt: skip
    file = certificate_for(name, tmp_path, days=days)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    server = relay_to(served.url, ahead_seconds=0.0)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with in_background(server, "https") as url:
        found = doctor("--url", url, *home)
    assert found["certificate"]["level"] == level
    assert words in found["certificate"]["found"]
    assert found["bad"] == (["certificate"] if level == "bad" else [])


def test_a_data_folder_that_is_in_use_or_has_an_open_secret_is_named(doctor: Doctor, serve_job: Serve) -> None:
    busy = serve_job()
    folder = ["--data-dir", str(busy.data_dir), "--port", "0"]
    found = doctor(*folder)
    assert found["bad"] == ["lock"]
    assert "promises hold" in found["records"]["found"]
    (busy.data_dir / "operator.key").chmod(0o644)
    found = doctor(*folder)
    assert found["bad"] == ["data folder"]
    (busy.data_dir / "operator.key").chmod(0o600)
    assert "operator.key" in found["data folder"]["found"]


def test_the_table_for_people_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["doctor", "--data-dir", str(tmp_path / "data"), "--port", str(taken.getsockname()[1])]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "→ stop that program" in printed
    assert "1 thing(s) must be mended" in printed
