"""Files that tell whether they are whole."""

import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.sealed_files import TornFile, read_sealed, write_sealed

HEADS = st.dictionaries(
    st.text(max_size=8), st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9) | st.booleans()
)
PARTS = st.lists(st.binary(max_size=60), max_size=4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sealed") / "file"


@given(head=HEADS, parts=PARTS, durable=st.booleans())
def test_what_was_written_is_read_back_to_the_bit(
    file: Path, head: dict[str, Any], parts: list[bytes], durable: bool
) -> None:
    assert write_sealed(file, head, parts, durable=durable) == file.stat().st_size
    found = read_sealed(file)
    assert (found.head, [bytes(part) for part in found.parts]) == (head, parts)


@given(parts=PARTS, where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_changed_bit_is_noticed(file: Path, parts: list[bytes], where: float, bit: int) -> None:
    write_sealed(file, {"a": 1}, parts, durable=False)
    content = bytearray(file.read_bytes())
    content[int(where * len(content))] ^= 1 << bit
    file.write_bytes(content)
    with pytest.raises(TornFile):
        read_sealed(file)


@given(parts=PARTS, left=st.floats(0, 1, exclude_max=True), after=st.binary(max_size=40))
def test_a_file_that_was_cut_or_written_over_is_noticed(
    file: Path, parts: list[bytes], left: float, after: bytes
) -> None:
    write_sealed(file, {}, parts, durable=False)
    content = file.read_bytes()
    torn = content[: int(left * len(content))] + after
    if torn != content:
        file.write_bytes(torn)
        with pytest.raises(TornFile):
            read_sealed(file)


def test_only_its_owner_may_read_it(file: Path) -> None:
    write_sealed(file, {}, [], durable=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_that_could_not_be_written_leaves_the_old_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    write_sealed(file, {"old": True}, [], durable=True)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_sealed(file, {"old": False}, [b"x" * 9999], durable=True)
    assert read_sealed(file).head == {"old": True}
    assert [path.name for path in file.parent.iterdir()] == [file.name]
