"""Data sets in memory that processes share."""

from dataclasses import dataclass

from fed_compute.client.datasets import Dataset
from fed_compute.simulator.cohort.memory import Segment, room_for
from fed_compute.simulator.cohort.messages import SharedDataset


@dataclass(frozen=True, eq=False)
class LaidOut(Dataset):
    """A data set that lies in a segment, so that a crew needs no copy of it."""

    segment: Segment
    shared: SharedDataset

    def __reduce__(self) -> tuple[type[Dataset], tuple[object, ...]]:
        """Travel as plain arrays: a segment is of one machine."""
        return Dataset, (self.x, self.y, self.name)


def laid_out(dataset: Dataset) -> LaidOut:
    """Copy a data set into a segment of its own; whoever lets go of the first then has it in memory once."""
    segment = Segment(room_of(dataset))
    shared = put(segment, dataset)
    return LaidOut(segment.at(shared.x), segment.at(shared.y), dataset.name, segment, shared)


def put(segment: Segment, dataset: Dataset) -> SharedDataset:
    """Copy a data set into the next free stretch of a segment."""
    return SharedDataset(segment.copy(dataset.x), segment.copy(dataset.y), dataset.name)


def room_of(dataset: Dataset) -> int:
    """Return how many bytes a data set takes up in a segment."""
    return room_for(dataset.x.shape, dataset.x.dtype) + room_for(dataset.y.shape, dataset.y.dtype)
