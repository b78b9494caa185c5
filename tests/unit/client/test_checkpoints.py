"""When a checkpoint is worth its price."""

from hypothesis import given
from hypothesis import strategies as st

from fed_compute.client.checkpoints import COST_RATIO, DISK_BYTES_PER_SECOND, is_due

NUMBERS = st.floats(0, 1e6)


def test_a_checkpoint_is_made_every_few_seconds_and_at_each_epoch_s_end() -> None:
    rest = {"every_seconds": 10.0, "cost_seconds": 0.001, "num_bytes": 1000}
    assert not is_due(9.9, **rest)
    assert is_due(10.0, **rest)
    assert is_due(0.1, **rest, epoch_ended=True)
    assert not is_due(0.01, **rest, epoch_ended=True), "an epoch of ten milliseconds is not worth one"


@given(
    seconds=NUMBERS,
    every_seconds=NUMBERS,
    cost_seconds=NUMBERS,
    num_bytes=st.integers(0, 10**10),
    epoch_ended=st.booleans(),
)
def test_checkpoints_are_cheap_whatever_the_setting(
    seconds: float, every_seconds: float, cost_seconds: float, num_bytes: int, epoch_ended: bool
) -> None:
    """At most a twentieth of the time, and no more bytes a second than a disk bears for years."""
    if is_due(
        seconds, every_seconds=every_seconds, cost_seconds=cost_seconds, num_bytes=num_bytes, epoch_ended=epoch_ended
    ):
        assert cost_seconds * COST_RATIO <= seconds
        assert num_bytes <= seconds * DISK_BYTES_PER_SECOND * (1 + 1e-9)
        assert epoch_ended or seconds >= every_seconds
