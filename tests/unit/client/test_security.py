"""Credential files: private, whole, and one per client."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fed_compute.client.security import Credential, CredentialStore
from fed_compute.errors import CredentialUnsafe

URL = "http://localhost:8000"
CREDENTIAL = Credential(URL, "client-1", "sk_ab_secret")


def test_a_stored_credential_is_read_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    file = store.claim(URL, None)
    assert store.load(file) is None
    store.save(file, CREDENTIAL)
    store.release()
    again = CredentialStore(tmp_path)
    assert again.load(again.claim(URL, None)) == CREDENTIAL
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    again.release()


def test_a_file_that_others_can_read_is_refused_and_chmod_is_named(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    file = store.claim(URL, "me")
    store.save(file, CREDENTIAL)
    file.chmod(0o640)
    with pytest.raises(CredentialUnsafe, match=r"0640, wanted 0600.*chmod 600"):
        store.load(file)
    store.release()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", '{"client_id": "a"}', '{"coordinator_url": "u", "client_id": "", "api_key": 3}']
)
def test_a_damaged_file_is_refused_and_stays_as_it_is(tmp_path: Path, content: str) -> None:
    """Registering anew over it would silently make another client."""
    store = CredentialStore(tmp_path)
    file = store.claim(URL, "me")
    file.write_text(content)
    file.chmod(0o600)
    with pytest.raises(CredentialUnsafe, match="not a credential file"):
        store.load(file)
    assert file.read_text() == content
    store.release()


def test_the_key_is_never_shown() -> None:
    assert "sk_ab_secret" not in f"{CREDENTIAL!r} {CREDENTIAL}"


def test_a_failed_save_keeps_the_old_credential_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CredentialStore(tmp_path)
    file = store.claim(URL, "me")
    store.save(file, CREDENTIAL)

    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CredentialUnsafe, match="no space"):
        store.save(file, Credential(URL, "other", "sk_x_y"))
    assert store.load(file) == CREDENTIAL
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".json", ".lock"]
    store.release()


def test_clients_without_a_name_on_one_machine_are_different_clients(tmp_path: Path) -> None:
    """Two terminals with the same command must not share one identity."""
    first, second = CredentialStore(tmp_path), CredentialStore(tmp_path)
    files = {first.claim(URL, None), second.claim(URL, None)}
    assert len(files) == 2
    first.release()
    third = CredentialStore(tmp_path)
    assert third.claim(URL, None) in files
    second.release()
    third.release()


def test_the_claim_of_a_dead_process_is_free_again(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fed_compute.client.security import CredentialStore; "
        "CredentialStore(Path(sys.argv[1])).claim(sys.argv[2], 'me'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path), URL], check=False).returncode == 9
    store = CredentialStore(tmp_path)
    assert store.claim(URL, "me").name.endswith("-me.json")
    store.release()


def test_a_name_that_another_running_client_uses_is_refused(tmp_path: Path) -> None:
    first, second = CredentialStore(tmp_path), CredentialStore(tmp_path)
    first.claim(URL, "me")
    with pytest.raises(CredentialUnsafe, match="another running client"):
        second.claim(URL, "me")
    first.release()


def test_each_coordinator_has_its_own_file(tmp_path: Path) -> None:
    store = CredentialStore(tmp_path)
    assert store.claim(URL, "me") != store.claim("https://other.example.org", "me")
    store.release()


def test_a_state_folder_that_cannot_be_made_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CredentialUnsafe, match="CLIENT_STATE_DIR"):
        CredentialStore(tmp_path / "file").claim(URL, None)
