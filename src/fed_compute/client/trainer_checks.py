"""Does this data fit this model? Asked once before training, so that the answer names both sides."""

import numpy as np
import torch
from torch import nn

from fed_compute.client.datasets import Dataset
from fed_compute.errors import ModelMismatch
from fed_compute.protocol.job import Loss


def check_data(module: nn.Module, loss: Loss, dataset: Dataset) -> None:
    """Check inputs and labels against the module and the loss. Costs one forward pass of one sample.

    Raises:
        ModelMismatch: saying what was found and what was wanted.
    """
    inputs = torch.from_numpy(dataset.x)
    asks = getattr(module, "input_problem", None)
    if asks is not None and (problem := asks(inputs)):
        raise ModelMismatch(f"data set {dataset.name} does not fit the model: {problem}")
    outputs = _probe(module, inputs[:1], dataset.name)
    if loss == "cross_entropy":
        _check_classes(dataset, outputs)
    else:
        _check_targets(dataset, outputs)


def targets_of(dataset: Dataset, loss: Loss) -> torch.Tensor:
    """Return the labels as the loss takes them: classes (N,), or float targets (N, K)."""
    labels = torch.from_numpy(dataset.y)
    if loss == "cross_entropy":
        return labels
    return labels.float().reshape(len(labels), -1)


def _probe(module: nn.Module, sample: torch.Tensor, name: str) -> torch.Tensor:
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            outputs = module(sample)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ModelMismatch(
            f"data set {name} does not fit the model: a sample of shape {list(sample.shape[1:])} and type "
            f"{sample.dtype} made it fail with: {str(error)[:300]}"
        ) from error
    module.train(was_training)
    if not isinstance(outputs, torch.Tensor) or outputs.ndim != 2:
        found = f"shape {list(outputs.shape)}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise ModelMismatch(f"the model's output has {found}, wanted one row per sample: (N, K)")
    return outputs


def _check_classes(dataset: Dataset, outputs: torch.Tensor) -> None:
    labels, classes = dataset.y, outputs.shape[1]
    if labels.dtype != np.int64 or labels.ndim != 1:
        raise ModelMismatch(
            f"data set {dataset.name} has labels of type {labels.dtype} and shape {list(labels.shape)}, "
            "cross_entropy wants one whole-number class per sample"
        )
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise ModelMismatch(
            f"data set {dataset.name} has classes from {lowest} to {highest}, "
            f"the model has {classes} outputs and takes classes 0 to {classes - 1}"
        )


def _check_targets(dataset: Dataset, outputs: torch.Tensor) -> None:
    labels = dataset.y
    width = 1 if labels.ndim == 1 else labels.shape[1]
    if labels.ndim > 2 or width != outputs.shape[1]:
        raise ModelMismatch(
            f"data set {dataset.name} has labels of shape {list(labels.shape)}, that is {width} per sample; "
            f"the model has {outputs.shape[1]} outputs, mse wants one label for each"
        )
