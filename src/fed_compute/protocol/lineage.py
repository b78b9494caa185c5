"""The chain that ties a job's versions together: anybody who has them can check that none was changed."""

import hashlib

from fed_compute.ids import Digest

FIRST_CHAIN = "0" * 64
"""What stands in the place of a parent's chain digest for v1."""


def chain_digest(parent: str, *, manifest: str, model: Digest) -> Digest:
    """Return SHA-256 over the parent's chain digest, the manifest's digest and the model's digest.

    The three are joined as hexadecimal text. `manifest` is the text `[[update_id, update digest, weight], …]`.
    """
    manifest_digest = hashlib.sha256(manifest.encode()).hexdigest()
    return Digest(hashlib.sha256(f"{parent}{manifest_digest}{model}".encode()).hexdigest())
