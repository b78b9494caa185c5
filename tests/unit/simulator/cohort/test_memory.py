"""Shared memory has no name, and lent memory is never lent twice at once."""

import gc
import mmap

import numpy as np
import pytest

from fed_compute.simulator.cohort.memory import Lender, Segment, mapped, room_for
from fed_compute.simulator.cohort.work_queue import WorkQueue, take


def test_another_mapping_of_a_segment_sees_the_same_values() -> None:
    first, second = np.arange(5, dtype=np.int64), np.eye(3, dtype=np.float32)
    segment = Segment(room_for(first.shape, first.dtype) + room_for(second.shape, second.dtype))
    places = [segment.copy(first), segment.copy(second)]
    other = mmap.mmap(segment.fd, segment.num_bytes)
    np.testing.assert_array_equal(mapped(other, places[0]), first)
    np.testing.assert_array_equal(mapped(other, places[1]), second)


def test_a_segment_outlives_its_object_as_long_as_an_array_of_it_is_used() -> None:
    array, _ = Segment(4096).array((1024,), np.float32)
    gc.collect()
    array[:] = 7
    assert array.sum() == 7 * 1024


def test_lent_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    lender = Lender()
    array, segment, _ = lender.lend((10, 100))
    view = array[3:5].reshape(-1)[::2]
    del array
    gc.collect()
    other, another, _ = lender.lend((10, 100))
    assert another is not segment, "a view is still in use"
    del view
    gc.collect()
    assert lender.lend((10, 100))[1] is segment
    assert other.shape == (10, 100)


def test_lent_arrays_of_the_same_time_do_not_overlap() -> None:
    lender = Lender()
    arrays = [lender.lend((4, 50))[0] for _ in range(4)]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [float(array.mean()) for array in arrays] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("count", [0, 1, 4_096, 4_097, 100_000])
def test_each_piece_of_work_is_taken_once(count: int) -> None:
    queue = WorkQueue()
    each = queue.fill(count)
    taken: list[int] = []
    while (number := take(queue.take_fd)) is not None:
        taken += range(count)[number * each : (number + 1) * each]
    assert taken == list(range(count))
    queue.close()
