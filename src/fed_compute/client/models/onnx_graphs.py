"""A model version as an ONNX graph, run and compared before anybody gets it."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx
import onnxscript  # noqa: F401  # torch writes graphs by it
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from fed_compute.client.models.conversion import random_samples
from fed_compute.errors import ConversionFailed

MOST_ERROR = 1e-4
"""How far a graph's outputs may lie from the module's, relative to the largest of them."""
_BATCHES = (1, 3)


def to_onnx_file(module: nn.Module, shape: Sequence[int], *, facts: dict[str, str]) -> bytes:
    """Write a module as an ONNX graph from `inputs` (N, *shape) to `outputs`, for any N, with `facts` as its metadata.

    The inputs are float32, whole numbers for a model of tokens. What the exporter notes of this machine, such as
    paths of source files, is left out. The graph is run by ONNX's own reference evaluator on random samples.

    Raises:
        ConversionFailed: if the module cannot be written so, or the graph's outputs are not the module's.
    """
    module.eval()
    graph = _graph(module, random_samples(module, shape, count=2))
    _forget_origin(graph)
    graph.producer_name = "fed-compute"
    for name, value in facts.items():
        graph.metadata_props.add(key=name, value=value)
    onnx.checker.check_model(graph, full_check=True)
    body: bytes = graph.SerializeToString()
    _require_same(module, onnx.load_from_string(body), shape)
    return body


def _graph(module: nn.Module, samples: torch.Tensor) -> onnx.ModelProto:
    with _quietly(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                (samples,),
                dynamo=True,
                input_names=["inputs"],
                output_names=["outputs"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            told = str(error.__cause__ or error).strip().splitlines() or ["the exporter gives no reason"]
            raise ConversionFailed(f"this model cannot be written as ONNX: {told[0][:300]}") from error
    if program is None:
        raise ConversionFailed("this model cannot be written as ONNX: the exporter made nothing of it")
    return program.model_proto


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter from telling of its own parts."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.fx")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _forget_origin(graph: onnx.ModelProto) -> None:
    """Remove what tells of the machine and the source of the exporter; it would also change from place to place."""
    del graph.metadata_props[:]
    for part in (graph.graph, *graph.graph.node, *graph.graph.input, *graph.graph.output, *graph.graph.value_info):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in graph.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""


def _require_same(module: nn.Module, graph: onnx.ModelProto, shape: Sequence[int]) -> None:
    evaluator = ReferenceEvaluator(graph)
    for count in _BATCHES:
        samples = random_samples(module, shape, count=count)
        with torch.no_grad():
            wanted = module(samples).numpy()
        outputs: Any = evaluator.run(None, {"inputs": samples.numpy()})
        found = np.asarray(outputs[0])
        error = float(np.abs(found - wanted).max()) if found.shape == wanted.shape else float("inf")
        if not error <= MOST_ERROR * max(1.0, float(np.abs(wanted).max())):
            raise ConversionFailed(
                f"the ONNX graph's outputs are {error:.3g} off the module's for {count} sample(s); nothing was written"
            )
