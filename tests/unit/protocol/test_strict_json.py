"""JSON without Python's leniences."""

import math

import pytest

from fed_compute.errors import UpdateMalformed
from fed_compute.protocol.strict_json import load_strict_json


def test_plain_json_is_read() -> None:
    assert load_strict_json(' {"a": [1, 2.5, null, true, "x"]} ', what="it") == {"a": [1, 2.5, None, True, "x"]}
    assert load_strict_json(b'"\xc3\xa4"', what="it") == "ä"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("{} {}", "not JSON"),
        ("{'a': 1}", "not JSON"),
        ("[1,]", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ("[NaN]", "NaN is not a JSON number"),
        ("[Infinity]", "Infinity is not a JSON number"),
        ("[-Infinity]", "-Infinity is not a JSON number"),
        ('{"a": 1, "b": 2, "a": 3}', "key 'a' comes twice"),
        ('{"x": {"deep": 1, "deep": 1}}', "key 'deep' comes twice"),
        ("9" * 5000, "not JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        (b"\xff", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        ("{}".encode("utf-32-be"), "not JSON"),
    ],
)
def test_what_python_forgives_is_refused(text: str | bytes, reason: str) -> None:
    with pytest.raises(UpdateMalformed, match=f"^the thing is.*{reason}"):
        load_strict_json(text, what="the thing")


def test_a_caller_that_reports_values_by_place_can_read_the_non_finite_ones() -> None:
    values = load_strict_json("[NaN, Infinity, -Infinity, 1e999]", what="it", non_finite=True)
    assert isinstance(values, list)
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf, math.inf]
