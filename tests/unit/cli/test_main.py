"""The command line: what it prints, and what it returns to the shell."""

import json
import socket
from pathlib import Path

import pytest

from fed_compute.cli.main import main
from fed_compute.coordinator.settings import load_settings
from fed_compute.coordinator.wiring import open_coordinator
from fed_compute.protocol.job import parse_job_text


def one_error_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the only line that was printed, which must be an error on standard error."""
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A coordinator's data folder with one job and nobody working on it."""
    coordinator = open_coordinator(load_settings(data_dir=tmp_path / "data"))
    coordinator.jobs.create(parse_job_text(""))
    coordinator.close()
    return tmp_path / "data"


@pytest.mark.parametrize("command", [[], ["serve"], ["join"], ["limits"], ["sent"], ["verify"], ["demo"]])
def test_every_command_explains_itself(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert "Usage: fed-compute" in capsys.readouterr().out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("fed-compute 0.")


def test_an_unknown_option_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--portt", "1"]) == 2
    assert "--port" in capsys.readouterr().err


def test_a_port_in_use_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--data-dir", str(tmp_path / "data")]) == 2
    assert f"port {port} on 127.0.0.1 is in use" in one_error_line(capsys)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert main(["serve", "--data-dir", str(tmp_path / "file" / "data")]) == 2
    assert "cannot be written" in one_error_line(capsys)


def test_a_second_coordinator_on_one_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = open_coordinator(load_settings(data_dir=tmp_path / "data"))
    try:
        assert main(["serve", "--data-dir", str(tmp_path / "data"), "--port", "0"]) == 2
    finally:
        first.close()
    assert "another coordinator is working on" in one_error_line(capsys)


def test_a_misspelt_key_of_a_job_file_names_the_right_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is touched before the file is understood."""
    job = tmp_path / "job.toml"
    job.write_text("[rounds]\ntarget_update = 3\n")
    assert main(["serve", "--job", str(job), "--data-dir", str(tmp_path / "data")]) == 2
    assert "did you mean 'rounds.target_updates'?" in one_error_line(capsys)
    assert not (tmp_path / "data").exists()


def test_a_setting_out_of_range_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNC_MIN_UPDATES", "none")
    assert main(["serve", "--data-dir", str(tmp_path / "data")]) == 2
    assert "ASYNC_MIN_UPDATES" in one_error_line(capsys)


def test_data_that_is_missing_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["join", "http://127.0.0.1:9", "--data", f"csv:{tmp_path}/none.csv,label=y"]) == 2
    assert "none.csv" in one_error_line(capsys)


def test_sound_data_is_clean(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(data_dir)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("clean")


def test_a_flipped_byte_is_found_and_told_to_the_shell(data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blob = next(path for path in (data_dir / "blobs").rglob("*") if path.is_file())
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o600)
    blob.write_bytes(content)
    assert main(["verify", str(data_dir), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["clean"] is False
    assert blob.name in json.dumps(report["checks"])
    assert main(["verify", str(data_dir)]) == 1
    assert "BROKEN" in capsys.readouterr().out


def test_a_folder_without_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "holds no coordinator data" in one_error_line(capsys)
