"""Secrets out of texts: whole ones anywhere, pieces of keys where a word begins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.coordinator.keys import new_invite, new_key
from fed_compute.protocol.redaction import redact, redact_all

SECRETS = st.sampled_from([new_key().write(), new_invite().write()])


@given(SECRETS, st.text(max_size=20), st.text(max_size=20))
def test_no_secret_survives(secret: str, before: str, after: str) -> None:
    assert secret.split("_")[2] not in redact(f"{before}{secret}{after}")


@given(SECRETS)
def test_redacting_twice_changes_nothing(secret: str) -> None:
    once = redact(f"a {secret} b")
    assert redact(once) == once


def test_what_was_taken_out_is_said() -> None:
    assert redact(f"{new_key().write()} and {new_invite().write()}") == "sk_[redacted] and inv_[redacted]"


@pytest.mark.parametrize("text", ["task_id", "inv_sqrt of a tensor", "risk_free", "sk_", "inventory_2024_numbers"])
def test_words_that_only_look_like_one_stay(text: str) -> None:
    assert redact(text) == text


@given(SECRETS)
def test_structures_are_searched_to_their_bottom(secret: str) -> None:
    found = redact_all({"a": [{secret: (secret, ValueError(secret))}], "n": 1, "none": None})
    assert secret not in repr(found)
    assert (found["n"], found["none"]) == (1, None)
