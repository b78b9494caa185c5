"""Every rule gives the bits that it has always given, on this machine, with this NumPy and this BLAS.

A version can be rebuilt by anybody only as long as this holds. A change here is a change of the product: versions made
before could no longer be verified.
"""

import hashlib
import os
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from fed_compute.learning.aggregation import aggregate, new_rule

NUM_UPDATES, NUM_PARAMETERS = 11, 5_000
RULES: dict[str, tuple[dict[str, Any], str]] = {
    "fedavg": ({"name": "fedavg"}, "98252c12c9ec4cb8"),
    "median": ({"name": "median"}, "57e8feed0624ce4a"),
    "trimmed mean": ({"name": "trimmed_mean"}, "fb2697d6114c6370"),
    "Krum": ({"name": "krum"}, "dbb4d3625df44f5d"),
    "Multi-Krum": ({"name": "multi_krum"}, "f4e0eda99d0e13fa"),
    "geometric median": ({"name": "geometric_median"}, "89dc9830f17105ee"),
    "centered clipping": ({"name": "centered_clipping"}, "f09717dad2b2e49c"),
    "mean of clipped": ({"name": "norm_clipping"}, "867604f1c8831d31"),
    "FLTrust": ({"name": "fltrust"}, "27cb3e5dad0cf3a9"),
    "robust": ({"name": "robust"}, "a15baa7aa2f87bdd"),
    "buckets, NNM, median": ({"name": "median", "pre": ["bucketing", "nnm"]}, "35536282557e8e92"),
    "FedNova": ({"name": "fednova"}, "9ee38ea30177e98b"),
    "FedNova, robust": ({"name": "robust", "pre": ["fednova"]}, "3900c06c3ca35c66"),
    "NNM, geometric median": ({"name": "geometric_median", "pre": ["nnm"]}, "e1824e99dafef829"),
}


def numbers(label: str, count: int) -> npt.NDArray[np.int64]:
    """Return whole numbers from 0 to 65 535 that depend on nothing but the label."""
    blocks = (hashlib.sha256(f"{label}:{i}".encode()).digest() for i in range(count // 16 + 1))
    return np.frombuffer(b"".join(blocks), dtype="<u2").astype(np.int64)[:count]


def updates() -> npt.NDArray[np.float32]:
    """Return updates with a common part, parts of their own, different lengths, and one giant."""
    common = numbers("common", NUM_PARAMETERS) - 32_768
    own = [numbers(f"own {i}", NUM_PARAMETERS) - 32_768 for i in range(NUM_UPDATES)]
    deltas = np.array([common + (i + 1) * row for i, row in enumerate(own)], dtype=np.float64) / 2**20
    deltas[3] *= 1_000
    return deltas.astype(np.float32)


def digest_of(name: str) -> str:
    """Return the digest of what a rule makes of the updates, with equal and with unequal weights."""
    rule, _ = RULES[name]
    deltas, center = updates(), (numbers("center", NUM_PARAMETERS) / 2**20).astype(np.float32)
    weights = [float(1 + k) for k in numbers("weights", NUM_UPDATES) % 9]
    steps = [float(1 + k) for k in numbers("steps", NUM_UPDATES) % 50]
    digest = hashlib.sha256()
    for counted in ([1.0] * NUM_UPDATES, weights):
        found = aggregate(new_rule(**rule), deltas, counted, center=center, root=2, steps=steps, seed=5)
        digest.update(found.tobytes())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_gives_the_bits_it_has_always_given(name: str) -> None:
    assert digest_of(name) == RULES[name][1]


@pytest.mark.parametrize("kernel", ["Prescott", "Haswell"])
def test_another_blas_kernel_more_threads_and_older_instructions_give_the_same_bits(kernel: str) -> None:
    """What a machine bought ten years ago would compute. Where these switches do not exist, nothing changes."""
    old = {"OPENBLAS_CORETYPE": kernel, "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F X86_V3 X86_V4"}
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2")
    program = "import tests.golden.test_aggregation_bits as t; print(*(t.digest_of(name) for name in t.RULES))"
    command = [sys.executable, "-W", "ignore", "-c", program]
    told = subprocess.run(command, env={**os.environ, **old, **threads}, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [digest for _, digest in RULES.values()]
