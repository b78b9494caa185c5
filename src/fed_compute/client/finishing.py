"""From what was trained to what is sent, and to what stays behind for the next time. Pure: no disk, no clock."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from fed_compute.client.recipes import LOSSLESS
from fed_compute.errors import TrainingDiverged
from fed_compute.learning.compression import Residual
from fed_compute.learning.control_variates import next_own_control
from fed_compute.learning.privacy import PrivacyProtector, l2_norm
from fed_compute.learning.vectors import is_finite
from fed_compute.protocol.messages import Recipe
from fed_compute.protocol.schema import Vector
from fed_compute.protocol.updates import complete_update, decode_update, encode_update

_ATTEMPTS_TO_FIT_NORM = 4


@dataclass(frozen=True, slots=True, eq=False)
class LeftBehind:
    """What the job's next update follows from once this one is accepted.

    `residual` is what is left unsent, None for lossless encodings; `control`, float32 (P,), the client's own control
    variate, None in jobs without them.
    """

    residual: Residual | None = None
    control: Vector | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Finished:
    """An update as it is sent, and `sent`, float32 (P,), the difference that the coordinator will read from it."""

    body: bytes | memoryview
    sent: Vector
    left: LeftBehind


def finish(
    delta: Vector,
    recipe: Recipe,
    says: Mapping[str, int | float],
    *,
    client_id: str,
    limit: float | None,
    before: Residual | None = None,
    added: Vector | None = None,
    room: memoryview | None = None,
) -> Finished:
    """Clip what was trained, float32 (P,), add what earlier updates left out, and encode it.

    Args:
        delta: trained minus base parameters.
        recipe: of a job whose schema digest is known to be right.
        says: what the update tells beside its values: `num_samples`, and what else there is.
        client_id: rounding is drawn from it and the recipe's seed.
        limit: the largest L2 norm of what is sent.
        before: what the last accepted update left out, of use with lossy encodings; None for nothing.
        added: what was added to each step's gradient, float32 (P,); None in a job without control variates.
        room: writable memory that ends with the values of `delta` and has `protocol.updates.ROOM_BYTES` before them:
            the update is completed there, if it tells them as they are.

    Raises:
        TrainingDiverged: if what is left behind, or what is sent, cannot be finite and short enough.
        UpdateNotFinite: if `delta` holds NaN or an infinity and has to be changed.
    """
    offered, residual = _clipped(delta, limit), None
    body: bytes | memoryview
    if recipe.encoding == LOSSLESS:
        body, sent = _encode_lossless(offered, recipe, says, room=room if offered is delta else None), offered
    else:
        before, rng = before or Residual.initial(delta.size), _rounding_stream(recipe, client_id)
        wanted = before.compensate(offered)
        body, sent = _encode_within(wanted, recipe, says, limit=limit, rng=rng)
        residual = before.keep(wanted, sent)
    control = None if added is None else _next_control(added, sent, says, recipe)
    return Finished(body, sent, LeftBehind(residual, control))


def decode_sent(body: bytes, recipe: Recipe, *, num_parameters: int) -> Vector:
    """Return the difference that an update of the recipe tells, float32 (P,).

    Raises:
        UpdateRefused: if it cannot be read as the recipe says it must be.
    """
    return decode_update(
        body,
        num_parameters=num_parameters,
        schema_digest=recipe.schema_digest,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
    ).delta


def _encode_within(
    wanted: Vector, recipe: Recipe, says: Mapping[str, int | float], *, limit: float | None, rng: np.random.Generator
) -> tuple[bytes, Vector]:
    """Return the body and the delta, shape (P,), that the coordinator will read from it.

    Rounding can make a vector longer than it was; it is then shortened until what arrives keeps
    the limit.
    """
    offered = _clipped(wanted, limit)
    for _ in range(_ATTEMPTS_TO_FIT_NORM):
        body = _encode(offered, recipe, says, rng=rng)
        sent = decode_sent(body, recipe, num_parameters=wanted.size)
        if limit is None or (norm := l2_norm(sent)) <= limit:
            return body, sent
        offered = PrivacyProtector.clip(offered, l2_norm(offered) * 0.99 * limit / norm)
    raise TrainingDiverged(f"the encoded update stays longer than the maximum norm {limit:g}")


def _encode_lossless(
    offered: Vector, recipe: Recipe, says: Mapping[str, int | float], *, room: memoryview | None
) -> bytes | memoryview:
    if room is None or recipe.compression != "none":
        return _encode(offered, recipe, says, rng=None)
    return complete_update(room, num_parameters=offered.size, schema_digest=recipe.schema_digest, **_claims(says))


def _encode(
    offered: Vector, recipe: Recipe, says: Mapping[str, int | float], *, rng: np.random.Generator | None
) -> bytes:
    return encode_update(
        offered,
        encoding=recipe.encoding,
        compression=recipe.compression,
        topk_fraction=recipe.topk_fraction,
        schema_digest=recipe.schema_digest,
        rng=rng,
        **_claims(says),
    )


class _Claims(TypedDict):
    """What an update says beside its values, as its writer takes it."""

    num_samples: int
    loss: float | None
    train_seconds: float | None
    num_steps: int | None


def _claims(says: Mapping[str, int | float]) -> _Claims:
    return {
        "num_samples": int(says["num_samples"]),
        "loss": says.get("loss"),
        "train_seconds": says.get("train_seconds"),
        "num_steps": int(says["num_steps"]) if "num_steps" in says else None,
    }


def _next_control(added: Vector, sent: Vector, says: Mapping[str, int | float], recipe: Recipe) -> Vector:
    lr = recipe.training.lr
    after = next_own_control(added, sent, way=says["num_steps"] * lr)
    if not is_finite(after):
        raise TrainingDiverged(f"the control variate became infinite with lr {lr}; the job needs another one")
    return after


def _clipped(delta: Vector, max_norm: float | None) -> Vector:
    return delta if max_norm is None else PrivacyProtector.clip(delta, max_norm)


def _rounding_stream(recipe: Recipe, client_id: str) -> np.random.Generator:
    """Return the stream of stochastic rounding: repeatable, and another one for each client."""
    words = [recipe.seed % 2**63, zlib.crc32(client_id.encode())]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))
