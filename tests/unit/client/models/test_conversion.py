"""Models in the forms of other tools compute what they computed here."""

import io
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from fed_compute.client.models import onnx_graphs
from fed_compute.client.models.built_in import BUILT_IN_MODULES
from fed_compute.client.models.conversion import random_samples, sample_shape, to_state_dict_file
from fed_compute.client.models.onnx_graphs import to_onnx_file
from fed_compute.errors import ConversionFailed, SettingInvalid

MLP = {"input_dim": 4, "hidden_dim": 3, "output_dim": 2}
CNN = {"height": 4, "width": 4, "output_dim": 2}
TOKENS = {"sequence_length": 3, "vocabulary": 5, "output_dim": 2, "model_dim": 4, "heads": 2, "layers": 1}
VECTORS = {"sequence_length": 3, "token_dim": 2, "output_dim": 2, "model_dim": 4, "heads": 2, "layers": 1}
MODELS: list[tuple[str, Mapping[str, object], tuple[int, ...]]] = [
    ("linear", {"input_dim": 4, "output_dim": 2}, (4,)),
    ("simple_mlp", MLP, (4,)),
    ("small_cnn", CNN, (1, 4, 4)),
    ("tiny_transformer", TOKENS, (3,)),
    ("tiny_transformer", VECTORS, (6,)),
]


class Branching(nn.Module):
    """A module whose way depends on its input, which no graph can say."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(inputs) if float(inputs.sum()) > 0 else self.layer(-inputs)
        return outputs


@pytest.mark.parametrize(("name", "arguments", "shape"), MODELS)
def test_a_built_in_model_says_what_one_sample_looks_like(
    name: str, arguments: Mapping[str, object], shape: tuple[int, ...]
) -> None:
    module = BUILT_IN_MODULES[name](arguments)
    assert sample_shape(module, None) == shape
    assert module(random_samples(module, shape, count=2)).shape == (2, 2)


def test_the_sample_of_a_plug_in_model_must_be_named() -> None:
    with pytest.raises(SettingInvalid, match="--input-shape"):
        sample_shape(Branching(), None)
    assert sample_shape(Branching(), [3]) == (3,)


def test_a_state_dict_file_is_read_without_running_code_and_has_every_buffer() -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    state = torch.load(io.BytesIO(to_state_dict_file(module)), weights_only=True)
    assert list(state) == list(module.state_dict())
    assert all(torch.equal(state[name], value) for name, value in module.state_dict().items())


@pytest.mark.parametrize(("name", "arguments", "shape"), [MODELS[1], MODELS[2], MODELS[3]])
def test_a_graph_computes_what_the_module_does_for_any_number_of_samples(
    name: str, arguments: Mapping[str, object], shape: tuple[int, ...]
) -> None:
    module = BUILT_IN_MODULES[name](arguments)
    body = to_onnx_file(module, shape, facts={"job": "default"})
    graph = onnx.load_from_string(body)
    for count in (1, 5):
        samples = random_samples(module, shape, count=count)
        (found,) = ReferenceEvaluator(graph).run(None, {"inputs": samples.numpy()})
        np.testing.assert_allclose(found, module(samples).detach().numpy(), atol=1e-6)
    assert {entry.key: entry.value for entry in graph.metadata_props} == {"job": "default"}
    assert b"/fed_compute/" not in body  # no path of this machine's sources


def test_the_same_model_gives_the_same_graph() -> None:
    module = BUILT_IN_MODULES["linear"]({"input_dim": 4, "output_dim": 2})
    assert to_onnx_file(module, (4,), facts={}) == to_onnx_file(module, (4,), facts={})


def test_a_model_that_no_graph_can_say_is_refused_in_one_line() -> None:
    with pytest.raises(ConversionFailed, match="cannot be written as ONNX") as caught:
        to_onnx_file(Branching(), (3,), facts={})
    assert "\n" not in caught.value.message


def test_a_graph_that_computes_something_else_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = BUILT_IN_MODULES["linear"]({"input_dim": 4, "output_dim": 2})
    other = BUILT_IN_MODULES["linear"]({"input_dim": 4, "output_dim": 2})
    graph = onnx_graphs._graph(other, random_samples(other, (4,), count=2))
    monkeypatch.setattr(onnx_graphs, "_graph", lambda *_: graph)
    with pytest.raises(ConversionFailed, match=r"outputs are .* off the module's"):
        to_onnx_file(module, (4,), facts={})
