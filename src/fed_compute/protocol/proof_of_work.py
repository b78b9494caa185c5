"""Proof of work: a newcomer spends a little computing time, so that a thousand newcomers cost a lot of it.

A solution of a challenge is a whole number whose SHA-256, taken over `<challenge>:<number>` in ASCII, begins with so
many zero bits. Finding one takes 2^bits tries on average, checking it takes one. Source: A. Back, Hashcash (2002).
"""

import hashlib
import itertools
from collections.abc import Callable

MOST_BITS = 32
"""No coordinator may ask for more."""
MOST_DIGITS = 20
_TRIES_BETWEEN_LOOKS = 8192


def is_solution(challenge: str, solution: str, *, difficulty_bits: int) -> bool:
    """Say whether `solution`, a decimal number of at most 20 digits, solves the challenge."""
    if not (solution.isascii() and solution.isdecimal() and len(solution) <= MOST_DIGITS):
        return False
    return _zero_bits(hashlib.sha256(f"{challenge}:{solution}".encode()).digest()) >= difficulty_bits


def solve(challenge: str, *, difficulty_bits: int, give_up: Callable[[], bool] = lambda: False) -> str | None:
    """Return the smallest solution, or None once `give_up` says so; it is asked every few milliseconds.

    Cost: 2^difficulty_bits hashes on average (at least 1 bit); one search in a hundred takes 4.6 times as many.
    """
    begun = hashlib.sha256(f"{challenge}:".encode())
    limit = (1 << (256 - difficulty_bits)).to_bytes(32)  # of equal length, bytes compare as numbers do
    for first in itertools.count(step=_TRIES_BETWEEN_LOOKS):
        if give_up():
            break
        for number in range(first, first + _TRIES_BETWEEN_LOOKS):
            attempt = begun.copy()
            attempt.update(b"%d" % number)
            if attempt.digest() < limit:
                return str(number)
    return None


def _zero_bits(digest: bytes) -> int:
    return 8 * len(digest) - int.from_bytes(digest).bit_length()
