"""Parameters as data: one flat vector, and where each tensor lies in it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import JobFileInvalid, UpdateShapeMismatch, UpdateTensorMismatch
from fed_compute.protocol.schema import Parameter, ParameterSchema, draw_initial

SCHEMA = ParameterSchema((Parameter("w", (2, 3)), Parameter("b", (2,)), Parameter("s", ())))
RECORD: dict[str, Any] = {"name": "w", "shape": [2, 3], "initial": "uniform", "scale": 0.5}

PARAMETERS = st.builds(
    Parameter,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,20}", fullmatch=True),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    initial=st.sampled_from(["zeros", "ones", "uniform", "normal"]),
    scale=st.floats(0, 10),
)
SCHEMAS = st.lists(PARAMETERS, min_size=1, max_size=5, unique_by=lambda p: p.name).map(
    lambda parameters: ParameterSchema(tuple(parameters))
)


@given(SCHEMAS, st.integers(0, 2**63 - 1))
def test_cutting_and_joining_are_inverse(schema: ParameterSchema, seed: int) -> None:
    vector = draw_initial(schema, seed=seed)
    assert schema.join(schema.split(vector)).tobytes() == vector.tobytes()


@given(SCHEMAS)
def test_a_schema_survives_being_plain_data(schema: ParameterSchema) -> None:
    assert ParameterSchema.from_json(schema.to_json()) == schema


def test_tensors_lie_in_order_without_gaps() -> None:
    tensors = SCHEMA.split(np.arange(9, dtype=np.float32))
    assert tensors["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert tensors["b"].tolist() == [6, 7]
    assert tensors["s"].tolist() == 8


def test_cutting_copies_nothing_and_joining_copies_all() -> None:
    vector = np.zeros(9, dtype=np.float32)
    tensors = SCHEMA.split(vector)
    tensors["b"][0] = 5
    assert vector[6] == 5
    joined = SCHEMA.join(tensors)
    joined[6] = 1
    assert vector[6] == 5


def test_a_vector_of_another_length_cannot_be_cut() -> None:
    with pytest.raises(UpdateShapeMismatch, match=r"\[8\].*\[9\]"):
        SCHEMA.split(np.zeros(8, dtype=np.float32))


def test_other_tensors_cannot_be_joined() -> None:
    tensors = SCHEMA.split(np.zeros(9, dtype=np.float32))
    with pytest.raises(UpdateTensorMismatch, match=r"missing tensors \['s'\], unknown tensors \['x'\]"):
        SCHEMA.join({"w": tensors["w"], "b": tensors["b"], "x": tensors["s"]})
    with pytest.raises(UpdateShapeMismatch, match="'b'"):
        SCHEMA.join({**tensors, "b": np.zeros(3, dtype=np.float32)})


def test_the_digest_is_about_names_and_shapes_only() -> None:
    same = ParameterSchema((Parameter("w", (2, 3), "normal", 1.0), *SCHEMA.parameters[1:]))
    assert same.digest() == SCHEMA.digest()
    for other in (Parameter("w", (3, 2)), Parameter("v", (2, 3))):
        assert ParameterSchema((other, *SCHEMA.parameters[1:])).digest() != SCHEMA.digest()
    assert ParameterSchema(tuple(reversed(SCHEMA.parameters))).digest() != SCHEMA.digest()


def test_the_same_seed_draws_the_same_bytes_and_another_seed_others() -> None:
    schema = ParameterSchema((Parameter("w", (50,), "uniform", 0.5), Parameter("b", (50,), "normal", 0.5)))
    assert draw_initial(schema, seed=1).tobytes() == draw_initial(schema, seed=1).tobytes()
    assert draw_initial(schema, seed=1).tobytes() != draw_initial(schema, seed=2).tobytes()


def test_a_tensor_more_does_not_change_the_others() -> None:
    first = Parameter("w", (50,), "uniform", 0.5)
    alone = draw_initial(ParameterSchema((first,)), seed=1)
    together = draw_initial(ParameterSchema((first, Parameter("b", (50,), "normal"))), seed=1)
    assert together[:50].tobytes() == alone.tobytes()


def test_initial_values_are_drawn_as_declared() -> None:
    size = 20_000
    kinds = [("zeros", 3.0), ("ones", 3.0), ("uniform", 2.0), ("normal", 2.0)]
    schema = ParameterSchema(tuple(Parameter(kind, (size,), kind, scale) for kind, scale in kinds))  # type: ignore[arg-type]
    drawn = schema.split(draw_initial(schema, seed=3))
    assert not drawn["zeros"].any()
    assert (drawn["ones"] == 1).all()
    assert np.abs(drawn["uniform"]).max() <= 2.0
    for name, deviation in (("uniform", 2.0 / 3**0.5), ("normal", 2.0)):
        assert abs(drawn[name].mean()) < 5 * deviation / size**0.5
        assert drawn[name].std() == pytest.approx(deviation, rel=0.05)


@pytest.mark.parametrize(
    "name", ["", "__metadata__", "__x", "a b", "a\n", "ä", 'a"b', "a\\b", "\ud800", "x" * 161], ids=ascii
)
def test_a_name_that_no_file_could_carry_is_refused(name: str) -> None:
    with pytest.raises(JobFileInvalid, match="not usable"):
        Parameter(name, (1,))


@pytest.mark.parametrize("shape", [(0,), (-1,), (2, 0), (1,) * 17, (2**32,), (10**5000,)], ids=lambda s: str(len(s)))
def test_a_shape_that_could_not_travel_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(JobFileInvalid, match="not shaped for travel"):
        Parameter("w", shape)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf"), 1e31])
def test_a_scale_that_could_not_be_drawn_from_is_refused(scale: float) -> None:
    with pytest.raises(JobFileInvalid, match="scale"):
        Parameter("w", (1,), "normal", scale)


def test_an_unknown_initialiser_is_refused_and_does_not_leave_memory_as_it_was() -> None:
    with pytest.raises(JobFileInvalid, match="starts as 'orthogonal'"):
        Parameter("w", (1,), "orthogonal")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parameters",
    [
        (),
        (Parameter("w", (1,)), Parameter("w", (2,))),
        (Parameter("w", (2**31,)), Parameter("v", (2**31,))),
        (Parameter("w", (2**32 - 1,) * 16),),
        tuple(Parameter(f"w{i}", (1,)) for i in range(5000)),
    ],
    ids=["none", "twice", "too many values", "far too many values", "too many names"],
)
def test_an_impossible_model_is_refused(parameters: tuple[Parameter, ...]) -> None:
    with pytest.raises(JobFileInvalid):
        ParameterSchema(parameters)


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        "w",
        {},
        {**RECORD, "extra": 1},
        {**RECORD, "name": 1},
        {**RECORD, "name": None},
        {**RECORD, "shape": "23"},
        {**RECORD, "shape": 6},
        {**RECORD, "shape": [2.5]},
        {**RECORD, "shape": ["2"]},
        {**RECORD, "shape": [True]},
        {**RECORD, "shape": [0]},
        {**RECORD, "initial": "wild"},
        {**RECORD, "initial": 1},
        {**RECORD, "scale": "1"},
        {**RECORD, "scale": None},
        {**RECORD, "scale": 10**400},
    ],
    ids=ascii,
)
def test_plain_data_that_is_no_schema_is_refused(item: Any) -> None:
    with pytest.raises(JobFileInvalid):
        ParameterSchema.from_json([item])


def test_what_an_initialiser_does_not_need_may_be_left_out() -> None:
    assert ParameterSchema.from_json([{"name": "w", "shape": []}]).parameters == (Parameter("w", ()),)
