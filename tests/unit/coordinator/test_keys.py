"""The written form of a key."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.keys import (
    InviteText,
    KeyText,
    new_invite,
    new_key,
    parse_invite,
    parse_key,
    secret_hmac,
    secret_matches,
)

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


invite_texts = st.builds(
    InviteText,
    invite_id=st.text(LETTERS, min_size=10, max_size=10),
    secret=st.text(LETTERS, min_size=22, max_size=22),
)


@given(invite=invite_texts)
def test_an_invitation_is_read_back_as_it_was_written(invite: InviteText) -> None:
    assert parse_invite(invite.write()) == invite


@given(invite=invite_texts, place=st.integers(0, 42), letter=st.sampled_from(LETTERS))
def test_an_invitation_with_one_wrong_letter_is_none(invite: InviteText, place: int, letter: str) -> None:
    text = invite.write()
    changed = text[:place] + letter + text[place + 1 :]
    assert parse_invite(changed) is None or changed == text


def test_a_key_is_no_invitation_and_the_other_way_round() -> None:
    assert parse_invite(new_key().write()) is None
    assert parse_key(new_invite().write()) is None


def test_new_invitations_hold_128_bits_and_never_show_them() -> None:
    invites = [new_invite() for _ in range(200)]
    assert len({invite.secret for invite in invites}) == 200
    assert all(re.fullmatch(r"inv_[0-9A-Za-z]{10}_[0-9A-Za-z]{28}", invite.write()) for invite in invites)
    assert invites[0].secret not in repr(invites[0])


@pytest.mark.parametrize("stored", [None, "", "0" * 64, "not hexadecimal"])
def test_nothing_matches_what_is_not_stored(stored: str | None) -> None:
    assert not secret_matches("secret", stored, pepper=PEPPER)


def test_a_secret_matches_what_was_stored_of_it_under_the_same_pepper_only() -> None:
    stored = secret_hmac("secret", pepper=PEPPER)
    assert secret_matches("secret", stored, pepper=PEPPER)
    assert not secret_matches("Secret", stored, pepper=PEPPER)
    assert not secret_matches("secret", stored, pepper=b"q" * 32)
