"""What virtual clients remember lies on the disk, and only that of those who took part."""

import os
from pathlib import Path

import numpy as np
import pytest

from fed_compute.client.finishing import LeftBehind
from fed_compute.errors import StateUnusable
from fed_compute.learning.compression import Residual
from fed_compute.simulator.keepsakes import Keepsakes

MILLION, SIZE = 1_000_000, 1_000


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SIZE).astype(np.float32)


def files_bytes() -> int:
    """Return how much lies in the nameless files that this process holds open."""
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.stat(link).st_size for link in links if link.exists() and "deleted" in os.readlink(link))


def test_each_client_finds_its_own_and_who_has_nothing_finds_zeros() -> None:
    kept = Keepsakes(MILLION, num_parameters=SIZE)
    for client in (999_999, 3, 17):
        kept.keep(client, LeftBehind(residual=Residual(vector(client)), control=vector(client + 1)))
    kept.keep(3, LeftBehind(control=vector(0)))
    np.testing.assert_array_equal(kept.control(3), vector(0))
    np.testing.assert_array_equal(kept.residual(3).unsent, vector(3))
    np.testing.assert_array_equal(kept.control(999_999), vector(1_000_000))
    assert not kept.control(4).any()
    assert not kept.residual(4).unsent.any()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux")
def test_of_a_million_clients_only_those_who_took_part_take_room() -> None:
    before = files_bytes()
    kept = Keepsakes(MILLION, num_parameters=SIZE)
    for client in range(0, MILLION, 100_000):
        for _ in range(2):
            kept.keep(client, LeftBehind(control=vector(client)))
    assert files_bytes() - before == 10 * 4 * SIZE
    del kept
    assert files_bytes() == before, "the files go with it"


def test_a_disk_that_fails_is_told_with_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    kept = Keepsakes(3, num_parameters=SIZE)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(StateUnusable, match=r"cannot be written in .*No space left.*TMPDIR"):
        kept.keep(0, LeftBehind(control=vector(0)))
    assert not kept.control(0).any()
