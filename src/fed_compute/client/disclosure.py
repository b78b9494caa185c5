"""What an update or a measurement says beside its values, and how much of that its owner lets out. Pure."""

import math
from dataclasses import dataclass
from typing import Literal

from fed_compute.protocol.messages import MAX_NUM_SAMPLES, Capabilities

Share = Literal["exact", "rounded", "hidden"]
ShareMachine = Literal["none", "version", "all"]

_DIGITS = 3
_ACCURACY_DECIMALS = 3


@dataclass(frozen=True, slots=True)
class Disclosure:
    """How exactly an update tells its number of samples, its training loss and its training time.

    The aggregation needs the number of samples, since it weighs by it; nothing needs the other two.
    """

    sample_count: Share = "exact"
    loss: Share = "rounded"
    seconds: Share = "hidden"
    max_sample_count: int = MAX_NUM_SAMPLES

    def tell_samples(self, count: int) -> int:
        """Return the number of samples to tell, from 1 to `max_sample_count`.

        Rounded is the largest power of two that is not above the count; hidden is 1, so that this
        update weighs as little as one sample.
        """
        match self.sample_count:
            case "exact":
                told = count
            case "rounded":
                told = 1 << (count.bit_length() - 1)
            case "hidden":
                told = 1
        return min(told, self.max_sample_count, MAX_NUM_SAMPLES)

    def tell_loss(self, loss: float) -> float | None:
        """Return the loss to tell: rounded to 3 significant digits, or None for nothing at all."""
        match self.loss:
            case "exact":
                return loss
            case "rounded":
                return significant(loss)
            case "hidden":
                return None

    def tell_change(self, before: float, after: float | None) -> tuple[float, float | None] | None:
        """Return a loss before and after a change as they are told, or None for nothing at all. No `after`, none told.

        Both are as exact as a loss; and so is by how much of itself the loss changed, which is all that a change is
        judged by: rounded one by one, two losses that differ by a thousandth would be told as equal.
        """
        told = self.tell_loss(before)
        if told is None or after is None:
            return None if told is None else (told, None)
        if self.loss == "exact" or before == 0.0:
            return told, self.tell_loss(after)
        moved = told * (1.0 + significant((after - before) / before))
        return told, moved if math.isfinite(moved) else self.tell_loss(after)

    def tell_seconds(self, seconds: float) -> float | None:
        """Return the training time to tell: rounded to whole seconds, or None for nothing at all."""
        match self.seconds:
            case "exact":
                return seconds
            case "rounded":
                return float(round(seconds))
            case "hidden":
                return None

    def tell_accuracy(self, accuracy: float | None) -> float | None:
        """Return the accuracy to tell: it is as exact as the loss. A measurement without a loss is never sent."""
        return accuracy if accuracy is None or self.loss == "exact" else round(accuracy, _ACCURACY_DECIMALS)


def significant(value: float) -> float:
    """Return a number rounded to 3 significant digits; finite whenever it was."""
    rounded = float(f"{value:.{_DIGITS - 1}e}")
    return rounded if math.isfinite(rounded) else value


def tell_machine(found: Capabilities, share: ShareMachine) -> Capabilities | None:
    """Return what a registration says about this machine: nothing, the client's version, or all that was found."""
    match share:
        case "none":
            return None
        case "version":
            return Capabilities(client_version=found.client_version)
        case "all":
            return found
