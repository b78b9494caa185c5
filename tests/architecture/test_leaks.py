"""The watch for secrets would see one: a run of tests that leaks fails, whatever way it leaks."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from fed_compute.coordinator.keys import KeyText, new_invite, new_key
from tests.architecture.source import REPOSITORY
from tests.leaks import file_holds_secret, holds_secret, may_hold_key

MAKE = "from fed_compute.coordinator.keys import new_invite, new_key\n"
CLEAN = MAKE + "def test_clean(tmp_path):\n    (tmp_path / 'log').write_text('sk_[redacted]'); print('sk_nonsense')\n"
# What a test does → where the watch has to find it.
LEAKS = {
    "(tmp_path / 'server.log').write_text('GET /?api_key=' + new_key().write())": "file test_0_0/server.log",
    "(tmp_path / 'x.sqlite3').write_bytes(bytes(3_000_000) + new_key().write().encode())": "file test_1_0/x.sqlite3",
    "(tmp_path / 'operator.key').write_text(new_key().write())": "file test_2_0/operator.key",  # others can read it
    "(tmp_path / 'log').write_text(new_invite().write())": "file test_3_0/log",
    "print(new_key().write())": "test_planted.py::test_4_: captured stdout call",
    "import sys; print(new_invite().write(), file=sys.stderr)": "test_planted.py::test_5_: captured stderr call",
    "import logging; logging.getLogger().warning(new_key().write())": "test_planted.py::test_6_: captured log call",
}


def run(folder: Path, tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests with the watch, as the real run has it, in a folder of their own; leave none of their files behind."""
    (folder / "test_planted.py").write_text(tests)
    plugins = ["-p", "tests.leaks", "-p", "no:cacheprovider"]
    where = ["-c", "/dev/null", "--rootdir", str(folder), "--basetemp", str(folder / "temp"), str(folder)]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, *where]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=50, check=False)
    shutil.rmtree(folder / "temp")
    return result


def test_a_run_that_leaks_nothing_passes(tmp_path: Path) -> None:
    result = run(tmp_path, CLEAN)
    assert result.returncode == 0, result.stdout


def test_a_run_that_leaks_secrets_fails_and_says_where_without_saying_them(tmp_path: Path) -> None:
    planted = "".join(f"def test_{number}_(tmp_path):\n    {act}\n" for number, act in enumerate(LEAKS))
    result = run(tmp_path, CLEAN + planted)
    assert result.returncode == 1
    assert f"{len(LEAKS) + 1} passed" in result.stdout, "each test is content; it is the run that fails"
    assert sorted(re.findall(r"lies in: (.+)", result.stdout)) == sorted(LEAKS.values())
    assert not holds_secret(result.stdout.encode())


def test_a_secret_across_two_blocks_is_seen(tmp_path: Path) -> None:
    for secret in (new_key().write().encode(), new_invite().write().encode()):
        for place in ((1 << 20) - len(secret) + 1, (1 << 20) - 1, (1 << 20) - 40):
            file = tmp_path / "blocks"
            file.write_bytes(bytes(place) + secret + bytes(100))
            assert file_holds_secret(file)
            file.unlink()


def test_what_only_looks_like_a_key_is_none() -> None:
    good = new_key()
    assert holds_secret(f"x{good.write()}x".encode())
    assert not holds_secret(f"sk_{good.key_id}_{good.secret}000000".encode())
    assert not holds_secret(KeyText(good.key_id, good.secret).write()[:-1].encode())


def test_only_private_files_that_are_made_for_keys_may_hold_them(tmp_path: Path) -> None:
    names = {"operator.key": True, "my.key": True, "credentials/a.json": True, "server.log": False, "a.json": False}
    for name, allowed in names.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
        file.chmod(0o600)
        assert may_hold_key(file) is allowed, name
        file.chmod(0o644)
        assert not may_hold_key(file), name
