"""The five encodings: exact where promised, bounded where not, and unmoved by hostile bytes."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fed_compute.errors import UpdateMalformed, UpdateNotFinite
from fed_compute.protocol.encodings import INT8_BLOCK, UpdateEncoding, encoding_named
from fed_compute.protocol.job import Encoding

Array = npt.NDArray[np.float32]
LOSSY: tuple[Encoding, ...] = ("bf16", "f16", "int8", "topk")
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
VECTORS = hnp.arrays(np.float32, st.integers(1, 60), elements=FINITE)


def named(name: Encoding, fraction: float = 0.1) -> UpdateEncoding:
    return encoding_named(name, topk_fraction=fraction)


def there_and_back(encoding: UpdateEncoding, delta: Array, seed: int = 0) -> Array:
    tensors = encoding.tensors(delta, np.random.default_rng(seed))
    specs = encoding.expected(delta.size)
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: s.shape for n, s in specs.items()}
    assert sum(tensor.nbytes for tensor in tensors.values()) == sum(spec.num_bytes for spec in specs.values())
    decoded = encoding.delta(tensors, num_parameters=delta.size)
    assert decoded.dtype == np.float32
    assert decoded.shape == delta.shape
    return decoded


@given(hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(width=32)))
def test_f32_is_exact_to_the_bit_even_for_what_the_validator_will_refuse(delta: Array) -> None:
    assert there_and_back(named("f32"), delta).tobytes() == delta.tobytes()


@given(VECTORS)
def test_bf16_rounds_to_the_nearest(delta: Array) -> None:
    decoded = there_and_back(named("bf16"), delta).astype(np.float64)
    assert (np.abs(decoded - delta) <= np.maximum(np.abs(delta.astype(np.float64)) * 2.0**-8, 2.0**-134)).all()


def test_bf16_breaks_ties_to_even() -> None:
    """1 + 2**-8 lies between 1 and 1 + 2**-7; 1 + 3 · 2**-8 between 1 + 2**-7 and 1 + 2**-6."""
    delta = np.array([1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8)], dtype=np.float32)
    assert there_and_back(named("bf16"), delta).tolist() == [1, 1 + 2.0**-6, -1]


def test_bf16_agrees_with_torch() -> None:
    torch = pytest.importorskip("torch")
    bits = np.random.default_rng(3).integers(0, 2**32, size=20_000, dtype=np.uint32)
    delta = bits.view(np.float32)
    delta = delta[np.isfinite(delta) & (np.abs(delta) < 3e38)]
    wanted = torch.from_numpy(delta).to(torch.bfloat16).to(torch.float32).numpy()
    assert there_and_back(named("bf16"), delta).tobytes() == wanted.tobytes()


@given(VECTORS)
def test_f16_rounds_to_the_nearest_within_its_range(delta: Array) -> None:
    decoded = there_and_back(named("f16"), delta).astype(np.float64)
    wanted = np.clip(delta.astype(np.float64), -65504, 65504)
    assert (np.abs(decoded - wanted) <= np.maximum(np.abs(wanted) * 2.0**-11, 2.0**-25)).all()


@pytest.mark.parametrize("name", LOSSY)
def test_the_largest_floats_stay_finite(name: Encoding) -> None:
    largest = np.finfo(np.float32).max
    assert np.isfinite(there_and_back(named(name, 1.0), np.array([largest, -largest], dtype=np.float32))).all()


@given(hnp.arrays(np.float32, st.integers(1, 3 * INT8_BLOCK), elements=FINITE, fill=FINITE), st.integers(0, 99))
def test_int8_is_off_by_less_than_one_scale(delta: Array, seed: int) -> None:
    """The scale is the block's largest magnitude / 127; so small ones are lost and none is ever enlarged much."""
    decoded = there_and_back(named("int8"), delta, seed).astype(np.float64)
    for start in range(0, delta.size, INT8_BLOCK):
        block = delta[start : start + INT8_BLOCK].astype(np.float64)
        scale = max(np.abs(block).max() / 127 * (1 + 2.0**-22), 2.0**-149)
        error = np.abs(decoded[start : start + INT8_BLOCK] - block)
        assert (error <= scale * (1 + 2.0**-20)).all()


def test_int8_is_right_on_average() -> None:
    """Two thousand draws: the mean of a rounding is within five standard errors of the value."""
    delta = np.array([1.0, 0.3, -0.0042, 0.5 / 127, 1e-6, -1.0, 0.0], dtype=np.float32)
    draws = np.array([there_and_back(named("int8"), delta, seed) for seed in range(2000)], dtype=np.float64)
    assert (np.abs(draws.mean(axis=0) - delta) <= 5 * (0.5 / 127) / np.sqrt(2000) + 1e-7).all()
    assert (draws[:, 0] == draws[0, 0]).all()


def test_int8_keeps_a_quiet_block_beside_a_loud_one() -> None:
    delta = np.concatenate([np.full(INT8_BLOCK, 1e6), np.full(INT8_BLOCK, 1e-6)]).astype(np.float32)
    np.testing.assert_allclose(there_and_back(named("int8"), delta), delta, rtol=1e-5)


def test_int8_is_repeatable_from_its_seed_and_only_from_it() -> None:
    delta = np.random.default_rng(1).standard_normal(5000).astype(np.float32)
    one, again, other = (there_and_back(named("int8"), delta, seed) for seed in (1, 1, 2))
    assert one.tobytes() == again.tobytes()
    assert one.tobytes() != other.tobytes()


@given(VECTORS, st.floats(min_value=0.001, max_value=1))
def test_topk_sends_the_largest_exactly_and_the_rest_not_at_all(delta: Array, fraction: float) -> None:
    decoded = there_and_back(named("topk", fraction), delta)
    index = named("topk", fraction).tensors(delta, np.random.default_rng(0))["delta.index"]
    kept = np.zeros(delta.size, dtype=bool)
    kept[index] = True
    assert decoded[kept].tobytes() == delta[kept].tobytes()
    assert not decoded[~kept].any()
    assert kept.all() or np.abs(delta[kept]).min() >= np.abs(delta[~kept]).max()


@pytest.mark.parametrize(("size", "fraction", "kept"), [(1, 0.01, 1), (100, 0.01, 1), (101, 0.01, 2), (7, 1.0, 7)])
def test_topk_keeps_the_fraction_rounded_up(size: int, fraction: float, kept: int) -> None:
    assert named("topk", fraction).expected(size)["delta.index"].shape == (kept,)


def test_topk_takes_the_earlier_of_equals() -> None:
    tensors = named("topk", 0.5).tensors(np.array([1, -2, 1, 1, 2, -1], dtype=np.float32), np.random.default_rng(0))
    assert tensors["delta.index"].tolist() == [0, 1, 4]


@pytest.mark.parametrize(
    ("index", "reason"),
    [([1, 1], "increase"), ([2, 1], "increase"), ([0, 10], "place 10"), ([0, 2**32 - 1], "place 4294967295")],
)
def test_topk_places_that_repeat_or_leave_the_vector_are_refused(index: list[int], reason: str) -> None:
    tensors = {"delta.index": np.array(index, dtype="<u4"), "delta.value": np.ones(2, dtype="<f4")}
    with pytest.raises(UpdateMalformed, match=reason):
        named("topk", 0.2).delta(tensors, num_parameters=10)


@pytest.mark.parametrize("name", LOSSY)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_lossy_encoding_does_not_hide_what_is_not_finite(name: Encoding, bad: float) -> None:
    delta = np.array([1, 2, bad, bad], dtype=np.float32)
    with pytest.raises(UpdateNotFinite, match=r"2 value.* position 2"):
        named(name).tensors(delta, np.random.default_rng(0))


@given(st.data(), st.sampled_from(["f32", *LOSSY]))
def test_hostile_bits_are_decoded_to_a_vector_or_refused(data: st.DataObject, name: Encoding) -> None:
    """No warning, no crash; what is not finite is left for the validator to see."""
    encoding = named(name)
    tensors = {}
    for tensor, spec in encoding.expected(20).items():
        dtype = {"F32": "<f4", "F16": "<f2", "BF16": "<u2", "I8": "i1", "U32": "<u4"}[spec.dtype]
        content = data.draw(st.binary(min_size=spec.num_bytes, max_size=spec.num_bytes))
        tensors[tensor] = np.frombuffer(content, dtype=dtype).reshape(spec.shape)
    try:
        decoded = encoding.delta(tensors, num_parameters=20)
    except UpdateMalformed:
        assert name == "topk"
    else:
        assert (decoded.dtype, decoded.shape) == (np.dtype(np.float32), (20,))


@pytest.mark.parametrize("name", ["f32", *LOSSY])
def test_encoding_leaves_its_argument_alone(name: Encoding) -> None:
    delta = np.linspace(-1e6, 1e6, 50, dtype=np.float32)
    before = delta.tobytes()
    there_and_back(named(name), delta)
    assert delta.tobytes() == before
