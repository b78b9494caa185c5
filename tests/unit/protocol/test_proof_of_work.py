"""A proof of work: checked with one hash, found with many."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.protocol.proof_of_work import is_solution, solve

challenges = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


def leading_zeros(challenge: str, solution: str) -> int:
    """Count zero bits the plain way."""
    digest = hashlib.sha256(f"{challenge}:{solution}".encode()).digest()
    return len(bits := "".join(f"{byte:08b}" for byte in digest)) - len(bits.lstrip("0"))


@given(challenge=challenges, bits=st.integers(1, 10))
def test_what_is_found_is_a_solution_and_the_smallest_one(challenge: str, bits: int) -> None:
    solution = solve(challenge, difficulty_bits=bits)
    assert solution is not None
    assert is_solution(challenge, solution, difficulty_bits=bits)
    assert all(leading_zeros(challenge, str(number)) < bits for number in range(int(solution)))


@given(challenge=challenges, number=st.integers(0, 10**20 - 1), bits=st.integers(1, 12))
def test_a_solution_is_judged_by_its_leading_zero_bits(challenge: str, number: int, bits: int) -> None:
    assert is_solution(challenge, str(number), difficulty_bits=bits) == (leading_zeros(challenge, str(number)) >= bits)


@pytest.mark.parametrize("text", ["", " ", "-1", "+1", "1.0", "1e3", "٣", "1\n", "9" * 21, "0x1"])
def test_only_plain_decimal_numbers_are_looked_at(text: str) -> None:
    assert not is_solution("challenge", text, difficulty_bits=0)


def test_a_search_ends_when_it_is_told_to() -> None:
    """2^64 hashes would take longer than the machine lasts."""
    looks = iter([False, False, True])
    assert solve("challenge", difficulty_bits=64, give_up=lambda: next(looks)) is None


def test_the_documented_example_holds() -> None:
    assert solve("example", difficulty_bits=12) == "4891"
    assert hashlib.sha256(b"example:4891").hexdigest().startswith("000")
