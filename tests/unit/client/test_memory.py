"""What lossy encodings leave out, through a restart."""

from pathlib import Path

import numpy as np
import pytest

from fed_compute.client.memory import WorkMemory
from fed_compute.clock import ManualClock
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from tests.unit.client.parts import folder_in, memory_in
from tests.unit.client.volunteer import Watcher

VALUES = np.array([0.1, -3e-30, 2.5], dtype=np.float32)
MODEL = {"schema_digest": "a" * 64, "num_parameters": 3}


def unsent(memory: WorkMemory, job: str = "digits", **model: object) -> list[float]:
    residual = memory.residual(job, **{**MODEL, **model})  # type: ignore[arg-type]
    assert residual.unsent.dtype == np.float32
    return [float(value) for value in residual.unsent]


def test_what_was_left_out_is_there_after_a_restart_to_the_bit(tmp_path: Path) -> None:
    memory_in(tmp_path).keep_residual("digits", Residual(VALUES), schema_digest="a" * 64)
    again = memory_in(tmp_path).residual("digits", **MODEL)  # type: ignore[arg-type]
    assert again.unsent.tobytes() == VALUES.tobytes()


def test_each_job_and_each_model_has_its_own(tmp_path: Path) -> None:
    """A job that was made anew with another model of the same name and size must not be given the old one's rest."""
    memory = memory_in(tmp_path)
    memory.keep_residual("digits", Residual(VALUES), schema_digest="a" * 64)
    assert unsent(memory) == [float(value) for value in VALUES]
    assert unsent(memory, "other") == [0, 0, 0]
    assert unsent(memory, schema_digest="b" * 64) == [0, 0, 0]
    assert unsent(memory, schema_digest="b" * 64, num_parameters=2) == [0, 0]


def test_a_torn_one_is_told_and_begun_anew(tmp_path: Path) -> None:
    own, watcher = folder_in(tmp_path), Watcher()
    memory = WorkMemory(own, ManualClock(), watcher)
    memory.keep_residual("digits", Residual(VALUES), schema_digest="a" * 64)
    file = own.unsent / "digits"
    file.write_bytes(file.read_bytes()[:-1])
    assert unsent(memory) == [0, 0, 0]
    assert watcher.names() == ["residual_lost"]


def test_a_control_variate_is_kept_beside_it_and_begun_anew_when_torn_or_of_another_model(tmp_path: Path) -> None:
    own, watcher = folder_in(tmp_path), Watcher()
    memory = WorkMemory(own, ManualClock(), watcher)
    memory.keep_own_control("digits", VALUES, schema_digest="a" * 64)
    again = WorkMemory(own, ManualClock(), watcher)
    assert again.own_control("digits", **MODEL).tobytes() == VALUES.tobytes()  # type: ignore[arg-type]
    assert unsent(again) == [0, 0, 0]
    assert again.own_control("digits", schema_digest="b" * 64, num_parameters=2).tolist() == [0, 0]
    file = own.controls / "digits"
    file.write_bytes(file.read_bytes()[:-1])
    assert again.own_control("digits", **MODEL).tolist() == [0, 0, 0]  # type: ignore[arg-type]
    assert watcher.names() == ["control_lost"]


def test_what_cannot_be_kept_or_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError("no space left on device")

    memory = memory_in(tmp_path)
    (folder_in(tmp_path).unsent / "digits").mkdir()
    with pytest.raises(StateUnusable, match="cannot be read"):
        unsent(memory)
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StateUnusable, match="no space left"):
        memory.keep_residual("other", Residual(VALUES), schema_digest="a" * 64)
