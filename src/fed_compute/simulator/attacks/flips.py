"""Turned around: the update's sign, or the labels behind it."""

from dataclasses import dataclass

import numpy as np

from fed_compute.simulator.attacks.attack import Attack, Classes, Sent, View


@dataclass(frozen=True, slots=True)
class SignFlip(Attack):
    """Send the own update with its sign turned: a step uphill.

    Source: "bit flipping" in Karimireddy, He, Jaggi 2022 (arXiv:2006.09365).
    """

    def send(self, view: View, rng: np.random.Generator) -> Sent:
        return Sent(-view.own, view.num_samples)


@dataclass(frozen=True, slots=True)
class LabelFlip(Attack):
    """Train honestly on wrong labels: class y becomes (number of classes - 1) - y.

    Source: Biggio et al. 2012 (arXiv:1206.6389) for the idea; the map y → 9 - y is that of Karimireddy, He,
    Jaggi 2022 (arXiv:2006.09365).
    """

    def relabel(self, classes: Classes, *, num_classes: int) -> Classes:
        return flip_classes(classes, num_classes=num_classes)


def flip_classes(classes: Classes, *, num_classes: int) -> Classes:
    """Return class y as (num_classes - 1) - y.

    Raises:
        ValueError: if a class is not from 0 to num_classes - 1.
    """
    if len(classes) and not 0 <= int(classes.min()) <= int(classes.max()) < num_classes:
        raise ValueError(f"classes run from {classes.min()} to {classes.max()}, wanted 0 to {num_classes - 1}")
    return num_classes - 1 - classes
