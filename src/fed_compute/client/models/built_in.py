"""The built-in models as torch modules; `protocol.architectures` declares the same ones as data.

Each module offers `input_problem(inputs)`: what is wrong with a data set's inputs, found and
wanted, or None. A plug-in may offer the same; without it the trainer asks the model itself.
"""

from collections.abc import Callable, Mapping

import torch
from torch import nn
from torch.nn import functional as F

from fed_compute.protocol.architectures import (
    LinearArguments,
    SimpleMLPArguments,
    SmallCNNArguments,
    TinyTransformerArguments,
)


def _features_problem(inputs: torch.Tensor, wanted: int) -> str | None:
    """Say whether each sample has exactly `wanted` values, in whatever shape."""
    found = inputs[0].numel()
    return None if found == wanted else f"each sample has {found} values, the model takes {wanted}"


class Linear(nn.Module):
    """One affine layer over the flattened sample: (N, …) to (N, output_dim)."""

    def __init__(self, arguments: LinearArguments) -> None:
        super().__init__()
        self.output = nn.Linear(arguments.input_dim, arguments.output_dim)

    def input_problem(self, inputs: torch.Tensor) -> str | None:
        return _features_problem(inputs, self.output.in_features)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.output(inputs.flatten(1).float())
        return outputs


class SimpleMLP(nn.Module):
    """Fully connected layers with ReLU between them, over the flattened sample."""

    def __init__(self, arguments: SimpleMLPArguments) -> None:
        super().__init__()
        widths = arguments.widths()
        self.input_dim = widths[0]
        self.layers = nn.ModuleList(nn.Linear(widths[i], widths[i + 1]) for i in range(len(widths) - 1))

    def input_problem(self, inputs: torch.Tensor) -> str | None:
        return _features_problem(inputs, self.input_dim)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = inputs.flatten(1).float()
        for layer in self.layers[:-1]:
            hidden = F.relu(layer(hidden))
        outputs: torch.Tensor = self.layers[-1](hidden)
        return outputs


class SmallCNN(nn.Module):
    """Two 3×3 convolutions with pooling, then 64 units. Images (N, C, H, W), or the same values flat."""

    def __init__(self, arguments: SmallCNNArguments) -> None:
        super().__init__()
        self.image = (arguments.channels, arguments.height, arguments.width)
        self.conv1 = nn.Conv2d(arguments.channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.dense = nn.Linear(32 * (arguments.height // 4) * (arguments.width // 4), 64)
        self.output = nn.Linear(64, arguments.output_dim)
        for layer in (self.conv1, self.conv2):  # with such kernels a CPU convolves in a third of the time
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)

    def input_problem(self, inputs: torch.Tensor) -> str | None:
        channels, height, width = self.image
        if inputs.ndim == 4 and tuple(inputs.shape[1:]) != self.image:
            return f"each sample is an image {tuple(inputs.shape[1:])}, the model takes {self.image}"
        return _features_problem(inputs, channels * height * width)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        channels, height, width = self.image
        images = inputs.float().reshape(-1, *self.image)
        # With channels last everything takes half the time. Of one channel PyTorch sees that by the strides alone,
        # which are as they should be only if the channels were last when the dimensions were made.
        images = images.permute(0, 2, 3, 1).flatten(1).view(-1, height, width, channels).permute(0, 3, 1, 2)
        # Pooled before ReLU: the same numbers as the other way round, from a quarter of the comparisons.
        maps = F.relu(F.max_pool2d(self.conv1(images), 2))
        maps = F.relu(F.max_pool2d(self.conv2(maps), 2))
        outputs: torch.Tensor = self.output(F.relu(self.dense(maps.flatten(1))))
        return outputs


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward, each with a residual connection: (N, S, W) to (N, S, W)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.attention_in = nn.Linear(width, 3 * width)
        self.attention_out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.feed1 = nn.Linear(width, 4 * width)
        self.feed2 = nn.Linear(4 * width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.attention_out(self._attend(self.norm1(tokens)))
        outputs: torch.Tensor = tokens + self.feed2(F.gelu(self.feed1(self.norm2(tokens))))
        return outputs

    def _attend(self, tokens: torch.Tensor) -> torch.Tensor:
        count, length, width = tokens.shape
        projected = self.attention_in(tokens).reshape(count, length, 3, self.heads, width // self.heads)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # each (N, heads, S, W / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return mixed.transpose(1, 2).reshape(count, length, width)


class TinyTransformer(nn.Module):
    """A pre-norm encoder, mean-pooled to classes. Tokens are whole numbers or vectors, by the arguments."""

    def __init__(self, arguments: TinyTransformerArguments) -> None:
        super().__init__()
        width = arguments.model_dim
        self.sequence_length = arguments.sequence_length
        self.vocabulary = arguments.vocabulary
        self.token_dim = arguments.token_dim or 1
        self.embedding: nn.Module = (
            nn.Embedding(arguments.vocabulary, width) if arguments.vocabulary else nn.Linear(self.token_dim, width)
        )
        self.position = nn.Parameter(torch.zeros(arguments.sequence_length, width))
        self.blocks = nn.ModuleList(TransformerBlock(width, arguments.heads) for _ in range(arguments.layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, arguments.output_dim)

    def input_problem(self, inputs: torch.Tensor) -> str | None:
        if self.vocabulary is None:
            return _features_problem(inputs, self.sequence_length * self.token_dim)
        if problem := _features_problem(inputs, self.sequence_length):
            return problem
        lowest, highest = float(inputs.min()), float(inputs.max())
        whole = not inputs.is_floating_point() or bool((inputs == inputs.round()).all())
        if lowest < 0 or highest >= self.vocabulary or not whole:
            return (
                f"tokens are {'whole numbers' if whole else 'not all whole numbers'} from {lowest:g} to {highest:g}, "
                f"the model takes whole numbers from 0 to {self.vocabulary - 1}"
            )
        return None

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.vocabulary is None:
            tokens = self.embedding(inputs.float().reshape(-1, self.sequence_length, self.token_dim))
        else:
            tokens = self.embedding(inputs.long().reshape(-1, self.sequence_length))
        tokens = tokens + self.position
        for block in self.blocks:
            tokens = block(tokens)
        outputs: torch.Tensor = self.output(self.norm(tokens).mean(dim=1))
        return outputs


def _linear(args: Mapping[str, object]) -> nn.Module:
    return Linear(LinearArguments.model_validate(dict(args)))


def _simple_mlp(args: Mapping[str, object]) -> nn.Module:
    return SimpleMLP(SimpleMLPArguments.model_validate(dict(args)))


def _small_cnn(args: Mapping[str, object]) -> nn.Module:
    return SmallCNN(SmallCNNArguments.model_validate(dict(args)))


def _tiny_transformer(args: Mapping[str, object]) -> nn.Module:
    return TinyTransformer(TinyTransformerArguments.model_validate(dict(args)))


BUILT_IN_MODULES: Mapping[str, Callable[[Mapping[str, object]], nn.Module]] = {
    "linear": _linear,
    "simple_mlp": _simple_mlp,
    "small_cnn": _small_cnn,
    "tiny_transformer": _tiny_transformer,
}
"""Built-in model name → the function from a recipe's arguments to its module."""
