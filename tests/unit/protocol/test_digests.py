"""Digests as names, and as RFC 9530 writes them."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fed_compute.errors import DigestMissing
from fed_compute.protocol.digests import format_content_digest, parse_content_digest, sha256_hex

HELLO = "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"


def test_the_digest_of_known_bytes_is_the_known_one() -> None:
    assert sha256_hex(b"hello world") == HELLO
    assert sha256_hex(memoryview(b"hello world")) == HELLO


def test_the_header_is_the_one_of_the_rfc() -> None:
    """RFC 9530, appendix B: the body `{"hello": "world"}` and a line feed."""
    digest = sha256_hex(b'{"hello": "world"}\n')
    assert format_content_digest(digest) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


@given(st.binary())
def test_what_is_written_is_read_back(content: bytes) -> None:
    digest = sha256_hex(content)
    assert parse_content_digest(format_content_digest(digest)) == digest


def test_other_algorithms_beside_it_are_skipped() -> None:
    header = f"sha-512=:AAAA:,\t{format_content_digest(HELLO)} , md5=:AAAA:"
    assert parse_content_digest(header) == HELLO


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (None, "missing"),
        ("", "without sha-256"),
        ("sha-512=:AAAA:", "without sha-256"),
        ("SHA-256=:AAAA:", "without sha-256"),
        ("sha-256", "not of the form"),
        ("sha-256=", "not of the form"),
        ("sha-256=:", "not of the form"),
        ("sha-256=" + HELLO, "not of the form"),
        ("sha-256=::", "0 bytes long"),
        ("sha-256=:AAAA:", "3 bytes long"),
        ("sha-256=:A:", "not base64"),
        ("sha-256=:ÄÖÜ=:", "not base64"),
        ("sha-256=:uU0nuZNNPgilLlLX2n2r+sSE7+N6U4DukIj3rOLvzek=\n:", "not base64"),
        (f"{format_content_digest(HELLO)}, {format_content_digest(HELLO)}", "twice"),
    ],
)
def test_a_header_without_one_readable_sha_256_is_refused_with_the_reason(header: str | None, reason: str) -> None:
    with pytest.raises(DigestMissing, match=reason):
        parse_content_digest(header)


@given(st.text() | st.text().map(lambda text: f"sha-256=:{text}:"))
def test_no_header_raises_anything_else(header: str) -> None:
    with contextlib.suppress(DigestMissing):
        assert len(parse_content_digest(header)) == 64
