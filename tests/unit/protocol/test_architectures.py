"""The built-in models as data."""

from typing import Any

import pytest

from fed_compute.errors import JobFileInvalid
from fed_compute.protocol.architectures import BUILT_IN, built_in_schema

SMALLEST: dict[str, dict[str, Any]] = {
    "linear": {"input_dim": 4, "output_dim": 2},
    "simple_mlp": {"input_dim": 4, "output_dim": 2},
    "small_cnn": {"height": 8, "width": 8, "output_dim": 2},
    "tiny_transformer": {"sequence_length": 3, "token_dim": 5, "output_dim": 2},
}


def shapes(name: str, **arguments: Any) -> dict[str, tuple[int, ...]]:
    return {p.name: p.shape for p in built_in_schema(name, arguments).parameters}


def test_the_simple_mlp_of_the_regression_example_is_10_32_32_1() -> None:
    assert shapes("simple_mlp", input_dim=10, hidden_dim=32, output_dim=1) == {
        "layers.0.weight": (32, 10),
        "layers.0.bias": (32,),
        "layers.1.weight": (32, 32),
        "layers.1.bias": (32,),
        "layers.2.weight": (1, 32),
        "layers.2.bias": (1,),
    }


def test_hidden_layers_can_be_named_one_by_one() -> None:
    found = shapes("simple_mlp", input_dim=4, hidden=[8, 6], output_dim=2)
    assert [shape for name, shape in found.items() if name.endswith("weight")] == [(8, 4), (6, 8), (2, 6)]


def test_the_mlp_of_the_throughput_benchmark_is_784_128_64_10() -> None:
    found = built_in_schema("simple_mlp", {"input_dim": 784, "hidden": [128, 64], "output_dim": 10})
    assert found.num_parameters == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 10 + 10


def test_a_width_and_a_list_of_layers_exclude_each_other() -> None:
    """One of them would be ignored in silence."""
    with pytest.raises(JobFileInvalid, match="hidden_dim or hidden, not both"):
        shapes("simple_mlp", input_dim=4, hidden_dim=8, hidden=[8, 6], output_dim=2)


def test_a_small_cnn_has_16_and_32_kernels_of_3_by_3_and_64_units() -> None:
    found = shapes("small_cnn", channels=1, height=28, width=28, output_dim=10)
    weights = {name.split(".")[0]: shape for name, shape in found.items() if name.endswith("weight")}
    assert weights == {
        "conv1": (16, 1, 3, 3),
        "conv2": (32, 16, 3, 3),
        "dense": (64, 32 * 7 * 7),
        "output": (10, 64),
    }


def test_a_small_cnn_halves_the_picture_twice() -> None:
    assert shapes("small_cnn", channels=3, height=28, width=30, output_dim=10)["dense.weight"] == (64, 32 * 7 * 7)


def test_a_transformer_grows_by_its_layers_alone() -> None:
    one, three = (shapes("tiny_transformer", sequence_length=3, vocabulary=9, output_dim=2, layers=n) for n in (1, 3))
    assert one.items() <= three.items()
    assert {name.split(".")[1] for name in three if name.startswith("blocks.")} == {"0", "1", "2"}
    assert one["embedding.weight"] == (9, 32)


def test_every_built_in_model_has_a_smallest_example_here() -> None:
    assert SMALLEST.keys() == BUILT_IN.keys()


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_model_is_finite_and_bounded_at_the_start(name: str) -> None:
    schema = built_in_schema(name, SMALLEST[name])
    assert schema.num_parameters > 0
    assert all(p.scale <= 1 for p in schema.parameters)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("value", [0, -1, 1.5, "4", True, None, 10**12, [4]], ids=str)
def test_a_width_is_a_positive_whole_number(name: str, value: Any) -> None:
    with pytest.raises(JobFileInvalid, match=f"model.args.output_dim of {name}"):
        built_in_schema(name, {**SMALLEST[name], "output_dim": value})


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_unknown_argument_is_refused_and_the_known_ones_are_named(name: str) -> None:
    with pytest.raises(JobFileInvalid, match=rf"model.args.outputs of {name}.*output_dim"):
        built_in_schema(name, {**SMALLEST[name], "outputs": 3})


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"sequence_length": 3, "output_dim": 2}, "either token_dim or vocabulary"),
        ({"sequence_length": 3, "output_dim": 2, "token_dim": 1, "vocabulary": 1}, "either token_dim or vocabulary"),
        ({"sequence_length": 3, "output_dim": 2, "token_dim": 1, "model_dim": 30, "heads": 4}, "multiple of heads"),
    ],
)
def test_a_transformer_that_cannot_be_is_refused(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(JobFileInvalid, match=reason):
        built_in_schema("tiny_transformer", arguments)


def test_a_model_that_could_not_travel_is_refused_before_memory_is_taken() -> None:
    with pytest.raises(JobFileInvalid, match="1000001000000 values"):
        built_in_schema("linear", {"input_dim": 1_000_000, "output_dim": 1_000_000})


def test_an_unknown_model_names_the_known_ones() -> None:
    with pytest.raises(JobFileInvalid, match=r"'resnet' is not built in .*simple_mlp"):
        built_in_schema("resnet", {})
