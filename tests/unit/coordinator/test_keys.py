"""The written form of a key."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.keys import KeyText, new_key, parse_key, secret_hmac

LETTERS = string.ascii_letters + string.digits
PEPPER = b"p" * 32
key_texts = st.builds(
    KeyText,
    key_id=st.text(LETTERS, min_size=10, max_size=10),
    secret=st.text(LETTERS, min_size=43, max_size=43),
)


@given(key=key_texts)
def test_a_key_is_read_back_as_it_was_written(key: KeyText) -> None:
    assert parse_key(key.write()) == key


@given(key=key_texts, place=st.integers(0, 62), letter=st.sampled_from(LETTERS))
def test_a_key_with_one_wrong_letter_is_no_key(key: KeyText, place: int, letter: str) -> None:
    """A typing error is noticed before any database is asked."""
    text = key.write()
    changed = text[:place] + letter + text[place + 1 :]
    assert parse_key(changed) is None or changed == text


@given(text=st.text())
def test_any_other_text_is_no_key(text: str) -> None:
    assert parse_key(text) is None


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "Bearer {}", "{}x"])
def test_nothing_may_stand_around_a_key(around: str) -> None:
    assert parse_key(around.format(new_key().write())) is None


def test_new_keys_are_drawn_from_enough_randomness() -> None:
    keys = [new_key() for _ in range(200)]
    assert len({key.key_id for key in keys}) == len({key.secret for key in keys}) == 200
    assert all(re.fullmatch(r"sk_[0-9A-Za-z]{10}_[0-9A-Za-z]{49}", key.write()) for key in keys)
    assert len(set("".join(key.secret for key in keys))) == 62


def test_the_secret_never_shows_in_a_repr() -> None:
    key = new_key()
    assert key.secret not in repr(key)
    assert key.key_id in repr(key)


def test_what_is_stored_depends_on_the_pepper_and_does_not_hold_the_secret() -> None:
    stored = secret_hmac("secret", pepper=PEPPER)
    assert stored == secret_hmac("secret", pepper=PEPPER)
    assert stored != secret_hmac("secret", pepper=b"q" * 32)
    assert "secret" not in stored
    assert len(stored) == 64
