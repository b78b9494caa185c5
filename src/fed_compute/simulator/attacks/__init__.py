"""How a client can lie: pure functions from what it sees to what it sends, by name."""

from fed_compute.simulator.attacks.attack import Attack, Sent, View
from fed_compute.simulator.attacks.registry import ATTACKS, attack_named

__all__ = ["ATTACKS", "Attack", "Sent", "View", "attack_named"]
