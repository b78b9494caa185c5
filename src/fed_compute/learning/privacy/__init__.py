"""What an update may reveal and how far it may reach."""

from fed_compute.learning.privacy.protector import PrivacyProtector, default_max_norm, tighter_norm
from fed_compute.learning.vectors import clip_to_norm, l2_norm

__all__ = ["PrivacyProtector", "clip_to_norm", "default_max_norm", "l2_norm", "tighter_norm"]
