"""The log of what left: whole, private, bounded, and there before anything is sent."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from fed_compute.client.departures import Departure, DepartureLog, read_sent, sent_folder
from fed_compute.clock import ManualClock
from fed_compute.errors import StateUnusable
from fed_compute.protocol.digests import sha256_hex

URL = "http://coordinator.test"


def log_in(
    folder: Path, *, max_bytes: int = 10**6, keep_updates: int = 0, clock: ManualClock | None = None
) -> DepartureLog:
    return DepartureLog(folder, clock or ManualClock(), coordinator=URL, max_bytes=max_bytes, keep_updates=keep_updates)


def test_an_entry_says_what_left_for_whom_and_with_which_digest(tmp_path: Path) -> None:
    facts: dict[str, Any] = {
        "job": "digits", "round_id": 3, "model_version": "v3", "task_id": "t_1",
        "says": {"num_samples": 80, "loss": 0.5}, "norm": {"trained": 2.0, "sent": 1.0, "limit": 1.0},
    }  # fmt: skip
    log_in(tmp_path).write_down("update", b"body", **facts)
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.000Z", "at": 1_700_000_000.0, "coordinator": URL, "kind": "update", "num_bytes": 4,
        "sha256": sha256_hex(b"body"), "kept": None, **facts,
    }  # fmt: skip
    found = read_sent(tmp_path)
    assert found.departures == [Departure(1_700_000_000.0, URL, "update", 4, sha256_hex(b"body"), **facts)]
    assert (found.damaged, found.rotated) == (0, False)


def test_nothing_sent_yet_is_an_empty_log(tmp_path: Path) -> None:
    assert read_sent(tmp_path / "absent").departures == []
    assert sent_folder(tmp_path) == tmp_path / "sent"


def test_only_its_owner_can_read_the_log_and_the_copies(tmp_path: Path) -> None:
    log_in(tmp_path / "sent", keep_updates=1).write_down("update", b"body")
    found = [path for path in (tmp_path / "sent").rglob("*") if path.is_file()]
    assert len(found) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "sent", tmp_path / "sent" / "updates")} == {0o700}


def test_half_a_line_of_a_crash_spoils_no_other_line(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.write_down("registration", b"one")
    with open(tmp_path / "log.jsonl", "ab") as stream:
        stream.write(b'{"time":"2023-11-1')
    log.write_down("evaluation", b"two")
    found = read_sent(tmp_path)
    assert [one.kind for one in found.departures] == ["registration", "evaluation"]
    assert found.damaged == 1


@pytest.mark.parametrize("line", [b"[]", b"3", b"{}", b"\xff", b'{"at": "x"}', b"[" * 100_000])
def test_lines_of_any_kind_are_counted_and_left_out(tmp_path: Path, line: bytes) -> None:
    log_in(tmp_path).write_down("registration", b"one")
    with open(tmp_path / "log.jsonl", "ab") as stream:
        stream.write(line + b"\n")
    found = read_sent(tmp_path)
    assert (len(found.departures), found.damaged) == (1, 1)


def test_the_log_stays_within_its_size_and_loses_the_oldest_first(tmp_path: Path) -> None:
    log = log_in(tmp_path, max_bytes=4000)
    for number in range(50):
        log.write_down("evaluation", b"body", round_id=number)
        assert sum(file.stat().st_size for file in tmp_path.glob("log*")) <= 4000
    found = read_sent(tmp_path)
    numbers = [one.round_id for one in found.departures]
    assert numbers == list(range(50 - len(numbers), 50))
    assert len(numbers) >= 5
    assert found.rotated


def test_the_newest_updates_are_kept_byte_for_byte_and_only_updates(tmp_path: Path) -> None:
    clock = ManualClock()
    log = log_in(tmp_path, keep_updates=2, clock=clock)
    for body in (b"first", b"second", b"third"):
        log.write_down("update", body, suffix="safetensors.zst")
        clock.advance(1)
    log.write_down("evaluation", b"measured")
    kept = {one.kept: one.sha256 for one in read_sent(tmp_path).departures[1:3]}
    files = {path.name: path.read_bytes() for path in (tmp_path / "updates").iterdir()}
    assert sorted(files.values()) == [b"second", b"third"]
    assert {name: sha256_hex(body) for name, body in files.items()} == kept
    assert all(name.endswith(".safetensors.zst") for name in files)
    assert read_sent(tmp_path).departures[3].kept is None


def test_clients_that_write_at_once_lose_no_line(tmp_path: Path) -> None:
    def work(number: int) -> None:
        log = log_in(tmp_path)
        for _ in range(5):
            log.write_down("evaluation", b"body", round_id=number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read_sent(tmp_path)
    assert sorted(one.round_id or 0 for one in found.departures) == [number for number in range(4) for _ in range(5)]
    assert found.damaged == 0


def test_what_cannot_be_written_down_is_an_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateUnusable, match="CLIENT_STATE_DIR"):
        log_in(tmp_path / "file").write_down("update", b"body")

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateUnusable, match="nothing is sent that cannot be written down"):
        log_in(tmp_path / "sent").write_down("update", b"body")
