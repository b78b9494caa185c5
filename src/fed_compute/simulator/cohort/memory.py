"""Memory that processes share: without a name, so nothing is left behind however a process ends."""

import itertools
import mmap
import os
import tempfile
import weakref
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 64
_numbers = itertools.count()


@dataclass(frozen=True)
class Place:
    """Where an array lies: in which segment, from which byte on, its type and its shape. Plain data."""

    segment: int
    offset: int
    dtype: str
    shape: tuple[int, ...]


class Segment:
    """A stretch of memory that another process can map too, once it was handed the file descriptor `fd`.

    On Linux an anonymous file in memory, which no mount limits, unlike /dev/shm of a container; elsewhere a temporary
    file that has lost its name. It goes when the last process that maps it ends or lets go.
    """

    def __init__(self, num_bytes: int) -> None:
        self.number = next(_numbers)
        self.num_bytes = max(1, num_bytes)
        self.fd = _anonymous_file(self.num_bytes)
        weakref.finalize(self, os.close, self.fd)
        self._map = mmap.mmap(self.fd, self.num_bytes)
        self._used = 0

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> tuple[npt.NDArray[Any], Place]:
        """Return the next free stretch as an array, and where it lies. Its content is what was there before."""
        place = Place(self.number, self._used, np.dtype(dtype).str, shape)
        self._used += room_for(shape, dtype)
        return mapped(self._map, place), place

    def copy(self, values: npt.NDArray[Any]) -> Place:
        """Copy an array into the next free stretch."""
        array, place = self.array(values.shape, values.dtype)
        array[...] = values
        return place

    def at(self, place: Place) -> npt.NDArray[Any]:
        """Return the array at a place of this segment."""
        return mapped(self._map, place)

    def cleared(self) -> Self:
        """Take all stretches for free, and return the same segment."""
        self._used = 0
        return self


def room_for(shape: tuple[int, ...], dtype: npt.DTypeLike) -> int:
    """Return how many bytes an array takes up in a segment."""
    return -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // _ALIGNMENT) * _ALIGNMENT


def mapped(memory: mmap.mmap, place: Place) -> npt.NDArray[Any]:
    """Return the array at a place of a mapped segment; it keeps the mapping alive."""
    count = int(np.prod(place.shape))
    return np.frombuffer(memory, np.dtype(place.dtype), count, place.offset).reshape(place.shape)


class Lender:
    """Lends arrays in shared memory and takes their memory back when nobody refers to them any more.

    Memory that was touched before is several times faster to write to than new memory, and results are large.
    """

    _MOST_KEPT = 2

    def __init__(self) -> None:
        self._free: list[Segment] = []

    def lend(self, shape: tuple[int, ...]) -> tuple[npt.NDArray[np.float32], Segment, Place]:
        """Return a float32 array with undefined content, its segment, and where it lies there."""
        wanted = room_for(shape, np.float32)
        fitting = [one for one in self._free if wanted <= one.num_bytes <= 2 * wanted + mmap.PAGESIZE]
        segment = fitting[0] if fitting else Segment(wanted)
        if fitting:
            self._free.remove(segment)
        array, place = segment.cleared().array(shape, np.float32)
        loan = _Loan(array)
        weakref.finalize(loan, self._take_back, segment)
        return np.asarray(loan), segment, place

    def _take_back(self, segment: Segment) -> None:
        self._free = [*self._free, segment][-self._MOST_KEPT :]


class _Loan:
    """Owns the memory of a lent array: numpy makes it the base of each view, so it lives as long as any of them."""

    def __init__(self, array: npt.NDArray[np.float32]) -> None:
        self.__array_interface__ = array.__array_interface__
        self._array = array


def _anonymous_file(num_bytes: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("fed-compute", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, num_bytes)
    return fd
