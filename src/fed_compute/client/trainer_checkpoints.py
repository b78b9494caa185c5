"""A training under way, and its checkpoint: parameters, optimiser, chance, and how far it is."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from fed_compute.client.checkpoints import Checkpoint, RawTensor
from fed_compute.client.trainer_optimizers import Optimizer
from fed_compute.clock import Clock

_MODULE, _OPTIMIZER, _CHANCE = "module.", "optimizer.", "chance."


class Course:
    """A module and its optimiser after `steps_done` batches. `loss_sum` is of the epoch that these end in."""

    def __init__(self, module: nn.Module, optimizer: Optimizer, *, device: torch.device, clock: Clock) -> None:
        self.module = module
        self.optimizer = optimizer
        self.device = device
        self.steps_done = 0
        self.loss_sum = 0.0
        self._clock = clock
        self._began = clock.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has trained, also before it was killed."""
        return self._clock.monotonic() - self._began

    def checkpoint(self) -> Checkpoint:
        """Return everything that the next step depends on beside the data and its order. On the CPU nothing is copied.

        So it is to be written before the next step. Sparse momentum becomes dense.
        """
        tensors = {
            **{_MODULE + name: tensor for name, tensor in self.module.state_dict().items()},
            **{_OPTIMIZER + name: tensor for name, tensor in self.optimizer.state().items()},
            _CHANCE + "cpu": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            tensors[_CHANCE + "cuda"] = torch.cuda.get_rng_state(self.device)
        raw = {name: _raw(tensor) for name, tensor in tensors.items()}
        return Checkpoint(self.steps_done, self.loss_sum, self.seconds, raw)

    def resume(self, checkpoint: Checkpoint) -> bool:
        """Go on from a checkpoint, with the process's chance as it was then; say whether it was one of this module."""
        found = _of(checkpoint.tensors, _MODULE)
        if _form(found) != _form(self.module.state_dict()):
            return False
        self.module.load_state_dict(found)
        self.optimizer.restore(_of(checkpoint.tensors, _OPTIMIZER))
        chance = _of(checkpoint.tensors, _CHANCE)
        torch.set_rng_state(chance["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(chance["cuda"], self.device)
        self.steps_done, self.loss_sum = checkpoint.steps_done, checkpoint.loss_sum
        self._began = self._clock.monotonic() - checkpoint.seconds
        return True


def _form(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, torch.Size]]:
    return {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()}


def _raw(tensor: torch.Tensor) -> RawTensor:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return RawTensor(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), flat.view(torch.uint8).numpy().data)


def _of(tensors: Mapping[str, RawTensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): _tensor(raw) for name, raw in tensors.items() if name.startswith(prefix)}


def _tensor(raw: RawTensor) -> torch.Tensor:
    content = torch.from_numpy(np.frombuffer(raw.content, dtype=np.uint8).copy())
    return content.view(getattr(torch, raw.dtype)).reshape(raw.shape)
