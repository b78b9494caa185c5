"""Attacks by name. The names are public: experiments and fleet descriptions use them, so they never change."""

import difflib
from collections.abc import Callable, Mapping
from functools import partial

from fed_compute.errors import AttackInvalid
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
        AttackInvalid: if there is no such attack, or it has no such setting.
    """
    make = ATTACKS.get(name)
    if make is None:
        nearest = difflib.get_close_matches(name, ATTACKS, n=1, cutoff=0.5)
        hint = f", did you mean {nearest[0]!r}?" if nearest else ";"
        raise AttackInvalid(f"attack {name[:80]!r} is unknown{hint} known: {', '.join(ATTACKS)}")
    try:
        return make(**settings)
    except TypeError as error:
        raise AttackInvalid(f"attack {name} does not take the settings {sorted(settings)}: {error}") from error
