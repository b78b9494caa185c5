"""Models of this machine against the job's declaration of them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fed_compute.client.models import build_model, load_vector, model_names, named_tensors, to_vector
from fed_compute.errors import ModelMismatch, ModelUnknown, UpdateShapeMismatch
from fed_compute.protocol.architectures import BUILT_IN, built_in_schema
from fed_compute.protocol.schema import Parameter, ParameterSchema
from tests.unit.client.recipes import DIGITS_ARGS, EVERY_MODEL, recipe_for, start_of

PLUGIN = """
import torch
class Counting(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 2)
        self.norm = torch.nn.BatchNorm1d(2)
    def forward(self, inputs):
        return self.norm(self.layer(inputs))
def not_a_module():
    return 3
"""
COUNTING = ParameterSchema(
    tuple(
        Parameter(name, shape)
        for name, shape in [
            ("layer.weight", (2, 5)),
            ("layer.bias", (2,)),
            ("norm.weight", (2,)),
            ("norm.bias", (2,)),
            ("norm.running_mean", (2,)),
            ("norm.running_var", (2,)),
        ]
    )
)


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with three entry points, one of which claims a built-in name."""
    (tmp_path / "counting_model.py").write_text(PLUGIN)
    info = tmp_path / "counting_model-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counting-model\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[fed_compute.models]\ncounting = counting_model:Counting\n"
        "three = counting_model:not_a_module\nlinear = counting_model:Counting\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize(("name", "args"), EVERY_MODEL)
def test_a_built_in_module_has_exactly_the_declared_parameters(name: str, args: dict[str, object]) -> None:
    """The coordinator writes v1 from the declaration, without torch; a difference would corrupt the vector."""
    module = build_model(recipe_for(name, args))
    declared = {parameter.name: parameter.shape for parameter in built_in_schema(name, args).parameters}
    assert {key: tuple(tensor.shape) for key, tensor in named_tensors(module).items()} == declared


def test_every_declared_model_can_be_built() -> None:
    assert set(BUILT_IN) <= set(model_names())
    assert {name for name, _ in EVERY_MODEL} == set(BUILT_IN)


@pytest.mark.parametrize(("name", "args"), EVERY_MODEL)
def test_a_vector_comes_back_unchanged_from_a_module(name: str, args: dict[str, object]) -> None:
    """The delta is a difference of two vectors; a lost or moved value would be counted as training."""
    recipe = recipe_for(name, args)
    schema, module = built_in_schema(name, args), build_model(recipe)
    vector = np.arange(schema.num_parameters, dtype=np.float32)
    load_vector(module, schema, vector)
    assert np.array_equal(to_vector(module, schema), vector)


@pytest.mark.parametrize(("name", "args"), EVERY_MODEL)
def test_a_built_in_model_takes_flat_samples(name: str, args: dict[str, object]) -> None:
    module = build_model(recipe_for(name, args))
    assert module(torch.ones(3, 64)).shape == (3, 10)


def test_the_convolutions_take_images_and_flat_samples_alike() -> None:
    module = build_model(recipe_for("small_cnn", {"channels": 2, "height": 5, "width": 9, "output_dim": 3}))
    images = torch.rand(4, 2, 5, 9)
    assert torch.equal(module(images), module(images.flatten(1)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("is_flat", [True, False])
def test_maps_of_a_convolution_have_their_channels_last_which_is_fastest(channels: int, is_flat: bool) -> None:
    """Of one channel PyTorch would take the first convolution's for channels first."""
    module = build_model(recipe_for("small_cnn", {"channels": channels, "height": 8, "width": 8, "output_dim": 3}))
    maps: list[torch.Tensor] = []
    for layer in (module.conv1, module.conv2):
        layer.register_forward_hook(lambda layer, inputs, output: maps.append(output))
    module(torch.rand(4, channels * 64) if is_flat else torch.rand(4, channels, 8, 8))
    assert [one.stride()[1] for one in maps] == [1, 1]


def test_the_transformer_takes_vectors_and_whole_numbers() -> None:
    vectors = build_model(recipe_for("tiny_transformer", {"sequence_length": 4, "token_dim": 3, "output_dim": 2}))
    tokens = torch.rand(2, 4, 3)
    assert torch.equal(vectors(tokens), vectors(tokens.flatten(1)))
    words = build_model(recipe_for("tiny_transformer", {"sequence_length": 4, "vocabulary": 9, "output_dim": 2}))
    ids = torch.tensor([[0, 8, 3, 3]])
    assert torch.equal(words(ids), words(ids.float()))


def test_a_vector_of_another_length_leaves_the_module_alone() -> None:
    recipe = recipe_for()
    schema, module = built_in_schema(recipe.model, recipe.model_args), build_model(recipe)
    before = to_vector(module, schema)
    with pytest.raises(UpdateShapeMismatch):
        load_vector(module, schema, np.zeros(5, dtype=np.float32))
    assert np.array_equal(to_vector(module, schema), before)


def test_an_unknown_model_names_the_nearest_and_the_installed_ones() -> None:
    recipe = recipe_for("simple_mpl", DIGITS_ARGS, schema=built_in_schema("simple_mlp", DIGITS_ARGS))
    with pytest.raises(ModelUnknown, match=r"did you mean 'simple_mlp'.*linear, simple_mlp, small_cnn"):
        build_model(recipe)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (("output.bias", (11,)), r"'output\.bias'.*found shape \[10\].*wants shape \[11\]"),
        (("output.bins", (10,)), r"'output\.bins'.*no such parameter"),
        (None, r"has a parameter 'output\.bias'.*the job has none"),
    ],
)
def test_the_first_difference_to_the_job_is_named(changed: tuple[str, tuple[int, ...]] | None, says: str) -> None:
    weight = Parameter("output.weight", (10, 64))
    schema = ParameterSchema((weight,) if changed is None else (weight, Parameter(*changed)))
    with pytest.raises(ModelMismatch, match=says):
        build_model(recipe_for("linear", {"input_dim": 64, "output_dim": 10}, schema=schema))


def test_a_recipe_whose_digest_is_not_that_of_its_parameters_is_refused() -> None:
    with pytest.raises(ModelMismatch, match="hash to"):
        build_model(recipe_for(schema_digest="0" * 64))


def test_arguments_that_do_not_fit_are_named() -> None:
    schema = built_in_schema("simple_mlp", DIGITS_ARGS)
    with pytest.raises(ModelMismatch, match=r"model\.args\.input_dim of simple_mlp"):
        build_model(recipe_for("simple_mlp", {"input_dimm": 64, "output_dim": 10}, schema=schema))


@pytest.mark.usefixtures("plugin")
def test_a_plug_in_model_is_found_and_its_counters_stay_at_home() -> None:
    """Batch norm counts batches in a whole number, and an average of counters means nothing."""
    module = build_model(recipe_for("counting", {"width": 5}, schema=COUNTING))
    assert to_vector(module, COUNTING).shape == (COUNTING.num_parameters,)


@pytest.mark.usefixtures("plugin")
@pytest.mark.parametrize(
    ("name", "args", "says"),
    [("counting", {"depth": 5}, "refused the recipe's arguments"), ("three", {}, "made a int, wanted a torch")],
)
def test_a_plug_in_that_does_not_fit_is_refused(name: str, args: dict[str, object], says: str) -> None:
    with pytest.raises(ModelMismatch, match=says):
        build_model(recipe_for(name, args, schema=COUNTING))


@pytest.mark.usefixtures("plugin")
def test_a_plug_in_cannot_take_the_name_of_a_built_in_model() -> None:
    recipe = recipe_for("linear", {"input_dim": 64, "output_dim": 10})
    assert start_of(recipe).shape == to_vector(build_model(recipe), built_in_schema("linear", recipe.model_args)).shape
