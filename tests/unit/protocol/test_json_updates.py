"""The JSON form of an update: three spellings, and a reader that believes nothing."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import (
    LossInvalid,
    SampleCountInvalid,
    UpdateMalformed,
    UpdateNotFinite,
    UpdateRefused,
    UpdateShapeMismatch,
    UpdateTensorMismatch,
)
from fed_compute.protocol.json_updates import UpdateExtras, parse_weight_delta
from fed_compute.protocol.schema import Parameter, ParameterSchema, Vector

SCHEMA = ParameterSchema((Parameter("w", (2, 3)), Parameter("b", (2,)), Parameter("s", ())))
WANTED = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.5, -0.5, 7.0]
NAMED: dict[str, Any] = {"w": [[1, 2, 3], [4, 5, 6]], "b": [0.5, -0.5], "s": 7}
NESTED: list[Any] = list(NAMED.values())
FLAT: list[Any] = [[1, 2, 3, 4, 5, 6], [0.5, -0.5], [7]]


def parse(weight_delta: Any, *, schema: ParameterSchema = SCHEMA) -> tuple[Vector, UpdateExtras]:
    return parse_weight_delta(weight_delta, schema, max_text_bytes=10_000)


@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "under weight_delta"])
@pytest.mark.parametrize("as_text", [True, False], ids=["text", "plain JSON"])
@pytest.mark.parametrize("form", [NAMED, NESTED, FLAT], ids=["named", "nested", "flat"])
def test_every_spelling_means_the_same(form: Any, as_text: bool, wrapped: bool) -> None:
    document = {"weight_delta": form} if wrapped else form
    vector, extras = parse(json.dumps(document) if as_text else document)
    assert vector.tolist() == WANTED
    assert vector.dtype == np.float32
    assert extras == UpdateExtras()


def test_names_may_come_in_any_order() -> None:
    assert parse(dict(reversed(NAMED.items())))[0].tolist() == WANTED


def test_the_other_documented_keys_are_tolerated_and_two_of_them_read() -> None:
    vector, extras = parse(
        json.dumps(
            {
                "client_id": "client-1",
                "round_id": 1,
                "model_version": "v1",
                "model_config": {"input_dim": 10},
                "training_config": {"lr": 0.01, "epochs": 1},
                "final_loss": 0.125,
                "num_samples": 100,
                "weight_delta": FLAT,
            }
        )
    )
    assert vector.tolist() == WANTED
    assert extras == UpdateExtras(num_samples=100, final_loss=0.125)


def test_a_loss_may_be_a_whole_number_and_both_may_be_null() -> None:
    assert parse({"weight_delta": FLAT, "final_loss": 2})[1].final_loss == 2.0
    assert parse({"weight_delta": FLAT, "final_loss": None, "num_samples": None})[1] == UpdateExtras()


def test_a_model_may_have_a_tensor_called_weight_delta() -> None:
    schema = ParameterSchema((Parameter("weight_delta", (2,)),))
    assert parse({"weight_delta": [1, 2]}, schema=schema)[0].tolist() == [1, 2]


BAD: list[tuple[str, Any, type[UpdateRefused], str]] = [
    ("nothing", "", UpdateMalformed, "not JSON"),
    ("no JSON", "{...}", UpdateMalformed, "not JSON"),
    ("trailing text", json.dumps(FLAT) + "x", UpdateMalformed, "not JSON"),
    ("a number", "1", UpdateMalformed, "wanted an object of tensors or a list"),
    ("a text in the text", json.dumps(json.dumps(FLAT)), UpdateMalformed, "is a text"),
    ("null", "null", UpdateMalformed, "is null"),
    ("null under the key", {"weight_delta": None}, UpdateMalformed, "is null"),
    ("a key twice", '{"w": 1, "w": 2}', UpdateMalformed, "'w' comes twice"),
    ("too long", " " * 10_001, UpdateMalformed, "10001 bytes.*limit is 10000"),
    ("too long in bytes", "ä" * 5_001, UpdateMalformed, "10002 bytes"),
    ("endless brackets", "[" * 9_000, UpdateMalformed, "nested too deeply"),
    ("an unknown key beside", {"weight_delta": FLAT, "admin": 1}, UpdateMalformed, "'admin'"),
    ("a tensor missing", {"w": NAMED["w"], "b": NAMED["b"]}, UpdateTensorMismatch, r"missing tensors \['s'\]"),
    ("a tensor unknown", {**NAMED, "x": 1}, UpdateTensorMismatch, r"unknown tensors \['x'\]"),
    ("an empty object", {}, UpdateTensorMismatch, "missing"),
    ("an empty list", [], UpdateTensorMismatch, "lists 0 arrays, the model has 3"),
    ("one array more", [*FLAT, [1]], UpdateTensorMismatch, "lists 4 arrays"),
    ("a named tensor that is flat", {**NAMED, "w": FLAT[0]}, UpdateShapeMismatch, r"'w' has shape \[6\].*\[2, 3\]"),
    ("a transposed one", {**NAMED, "w": [[1, 2], [3, 4], [5, 6]]}, UpdateShapeMismatch, r"\[3, 2\].*\[2, 3\]"),
    ("a flat one too short", [FLAT[0][:5], *FLAT[1:]], UpdateShapeMismatch, r"'w' has shape \[5\]"),
    ("an empty tensor", {**NAMED, "b": []}, UpdateShapeMismatch, r"'b' has shape \[0\]"),
    ("empty rows", {**NAMED, "w": [[], []]}, UpdateShapeMismatch, r"'w' has shape \[2, 0\]"),
    ("a scalar for a list", {**NAMED, "b": 1}, UpdateShapeMismatch, r"'b' has shape \[\]"),
    ("ragged lengths", {**NAMED, "w": [[1, 2, 3], [4, 5]]}, UpdateMalformed, "'w' is ragged"),
    ("ragged depth", {**NAMED, "w": [[1, 2, 3], 4]}, UpdateMalformed, "'w' is ragged"),
    ("ragged depth, number first", {**NAMED, "w": [4, [1, 2, 3]]}, UpdateMalformed, "'w' holds a list"),
    ("nested 17 deep", {**NAMED, "b": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}, UpdateMalformed, "more than 16 deep"),
    ("true for a number", {**NAMED, "b": [True, 1]}, UpdateMalformed, "'b' holds a boolean"),
    ("text for a number", {**NAMED, "b": ["1", 1]}, UpdateMalformed, "'b' holds a text"),
    ("null for a number", {**NAMED, "b": [None, 1]}, UpdateMalformed, "'b' holds null"),
    ("an object for a number", {**NAMED, "s": {}}, UpdateMalformed, "'s' holds an object"),
    ("NaN", '{"w": [[1, 2, 3], [4, 5, NaN]], "b": [0, 0], "s": 0}', UpdateNotFinite, "position 5"),
    ("Infinity", "[[1, 2, 3, 4, 5, 6], [Infinity, -Infinity], 0]", UpdateNotFinite, "2 value.* position 6"),
    ("1e999", "[[1, 2, 3, 4, 5, 6], [0, 0], 1e999]", UpdateNotFinite, "position 8"),
    ("NaN in plain JSON", [FLAT[0], [float("nan"), 0], 0], UpdateNotFinite, "position 6"),
    ("too large for float32", [FLAT[0], [1e300, 0], 0], UpdateNotFinite, "position 6"),
    ("too large for any float", [FLAT[0], [10**400, 0], 0], UpdateMalformed, "'b' holds a number too large"),
    ("5000 digits", f"[[1, 2, 3, 4, 5, 6], [0, 0], {'9' * 5000}]", UpdateMalformed, "not JSON"),
    ("no samples", {"weight_delta": FLAT, "num_samples": 0}, SampleCountInvalid, "below 1"),
    ("too many samples", {"weight_delta": FLAT, "num_samples": 10**5000}, SampleCountInvalid, "too large"),
    ("half a sample", {"weight_delta": FLAT, "num_samples": 1.5}, SampleCountInvalid, "from 1 to 10000000"),
    ("true samples", {"weight_delta": FLAT, "num_samples": True}, SampleCountInvalid, "a boolean"),
    ("samples as text", {"weight_delta": FLAT, "num_samples": "9"}, SampleCountInvalid, "a text"),
    ("a loss of NaN", '{"weight_delta": [], "final_loss": NaN}', LossInvalid, "out of range"),
    ("a loss of text", {"weight_delta": FLAT, "final_loss": "low"}, LossInvalid, "loss is a text"),
    ("a true loss", {"weight_delta": FLAT, "final_loss": True}, LossInvalid, "loss is a boolean"),
    ("a negative loss", {"weight_delta": FLAT, "final_loss": -1}, LossInvalid, "from 0 to 1e[+]06"),
    ("a huge loss", {"weight_delta": FLAT, "final_loss": 10**400}, LossInvalid, "out of range"),
    ("half a surrogate pair", '{"\\ud800": 1}', UpdateTensorMismatch, "unknown"),
]


@pytest.mark.parametrize(("weight_delta", "error", "reason"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_json_is_refused_with_the_reason(weight_delta: Any, error: type[UpdateRefused], reason: str) -> None:
    with pytest.raises(error, match=reason) as caught:
        parse(weight_delta)
    json.dumps([caught.value.message, caught.value.details], ensure_ascii=False).encode()


NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text(max_size=3)
TREES = st.recursive(
    NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["w", "b", "s", "weight_delta", "num_samples", "final_loss"]), inner, max_size=4
        )
    ),
    max_leaves=20,
)


def refused_or_right(weight_delta: Any) -> None:
    try:
        vector, extras = parse(weight_delta)
    except UpdateRefused as refusal:
        json.dumps([refusal.message, refusal.details], ensure_ascii=False).encode()
        return
    assert vector.shape == (9,)
    assert np.isfinite(vector).all()
    assert extras.num_samples is None or 1 <= extras.num_samples <= 10_000_000


@given(st.dictionaries(st.text(max_size=3), TREES) | st.lists(TREES, max_size=4))
def test_any_plain_json_is_refused_or_read_and_nothing_worse(document: Any) -> None:
    refused_or_right(document)


@given(TREES, TREES, TREES)
def test_any_tensors_under_the_right_names_are_refused_or_read(w: Any, b: Any, s: Any) -> None:
    refused_or_right({"w": w, "b": b, "s": s})


@given(TREES)
def test_any_json_text_is_refused_or_read_and_nothing_worse(document: Any) -> None:
    refused_or_right(json.dumps(document))


@given(st.text())
def test_any_text_is_refused_and_nothing_worse(text: str) -> None:
    with pytest.raises(UpdateRefused):
        parse(text)


@given(st.data())
def test_a_changed_text_is_refused_or_read_and_nothing_worse(data: st.DataObject) -> None:
    text = list(json.dumps({"weight_delta": NAMED, "num_samples": 3}))
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from('[]{},:"0129eE-.+ Nwtf\\'))
    refused_or_right("".join(text))
