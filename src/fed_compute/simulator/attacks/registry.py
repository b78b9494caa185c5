"""Attacks by name. The names are public: experiments and fleet descriptions use them, so they never change."""

from collections.abc import Callable, Mapping
from functools import partial
from inspect import signature

from fed_compute.errors import AttackInvalid
from fed_compute.protocol.suggestions import did_you_mean
from fed_compute.simulator.attacks.attack import Attack
from fed_compute.simulator.attacks.collusion import ALittleIsEnough, InnerProductManipulation, Mimic
from fed_compute.simulator.attacks.flips import LabelFlip, SignFlip
from fed_compute.simulator.attacks.free_riders import DisguisedFreeRider, FreeRider
from fed_compute.simulator.attacks.noise import Gaussian
from fed_compute.simulator.attacks.weight import SampleCountLie, Scaling

ATTACKS: Mapping[str, Callable[..., Attack]] = {
    "none": Attack,
    "label_flip": LabelFlip,
    "sign_flip": SignFlip,
    "ipm": InnerProductManipulation,
    "fall_of_empires": partial(InnerProductManipulation, epsilon=2.0),
    "alie": ALittleIsEnough,
    "gaussian": Gaussian,
    "scaling": Scaling,
    "mimic": Mimic,
    "sample_count_lie": SampleCountLie,
    "free_rider": FreeRider,
    "disguised_free_rider": DisguisedFreeRider,
}
"""Name → what makes the attack from its own settings, all of which have defaults."""


def attack_named(name: str, **settings: float) -> Attack:
    """Return the attack of a name, with its settings changed: `attack_named("ipm", epsilon=0.5)`.

    Raises:
        AttackInvalid: if there is no such attack or no such setting of it, naming the nearest one and all; or if a
            setting is no whole number and has to be one.
    """
    make = ATTACKS.get(name)
    if make is None:
        raise AttackInvalid(
            f"attack {name[:80]!r} is unknown{did_you_mean(name, ATTACKS, cutoff=0.5)} known: {', '.join(ATTACKS)}"
        )
    known = attack_settings(name)
    if unknown := next((setting for setting in settings if setting not in known), None):
        takes = f"known: {', '.join(known)}" if known else "it has none"
        raise AttackInvalid(
            f"attack {name} has no setting {unknown[:80]!r}{did_you_mean(unknown, known, cutoff=0.5)} {takes}"
        )
    return make(**{setting: _as_taken(name, setting, value, known[setting]) for setting, value in settings.items()})


def attack_settings(name: str) -> dict[str, float | None]:
    """Return the settings of a known attack, and their usual values; None is one that follows from the round."""
    return {setting: found.default for setting, found in signature(ATTACKS[name]).parameters.items()}


def _as_taken(attack: str, setting: str, value: float, usual: float | None) -> float:
    """Return a value of a setting; a whole number where the usual one is."""
    if not isinstance(usual, int):
        return value
    if value != int(value) or value < 0:
        raise AttackInvalid(f"setting {setting} of attack {attack} is {value:g}, wanted a whole number from 0")
    return int(value)
