"""`RateLimit` and `RateLimit-Policy` as draft-ietf-httpapi-ratelimit-headers-11 writes them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from fed_compute.clock import ManualClock
from fed_compute.coordinator.rate_limiter import Limit, Quotas, RateLimiter
from fed_compute.server.rate_fields import fields_of

# Section 3.1 and 4.1 of the draft: a list of strings with parameters, all of them integers but the unit.
POLICY = r'"[a-z-]+";q=[0-9]{1,15}(;qu="(requests|content-bytes|concurrent-requests)")?;w=[1-9][0-9]*'
LEFT = r'"[a-z-]+";r=[0-9]{1,15};t=[0-9]+'


def test_what_is_left_is_told_beside_the_policy() -> None:
    clock = ManualClock()
    limits = RateLimiter(Quotas(requests_per_minute=50, updates_per_minute=5), clock=clock)
    limits.request("anna")
    clock.advance(18)
    limits.request("anna")
    limits.update("anna")
    fields = fields_of([limits.left(limit, "anna") for limit in (Limit.REQUESTS, Limit.UPDATES)])
    assert fields["RateLimit-Policy"] == '"requests";q=50;w=60, "updates";q=5;w=60'
    assert fields["RateLimit"] == '"requests";r=48;t=42, "updates";r=4;t=60'


@given(limit=st.sampled_from(Limit), quota=st.integers(1, 10**6), used=st.integers(0, 5), pause=st.floats(0, 90))
def test_every_field_has_the_form_of_the_draft(limit: Limit, quota: int, used: int, pause: float) -> None:
    clock = ManualClock()
    limits = RateLimiter(Quotas(*[quota] * 8), clock=clock)
    for _ in range(min(used, quota)):
        limits.charge(limit, "anna")
    clock.advance(pause)
    fields = fields_of([limits.left(limit, "anna")])
    assert re.fullmatch(POLICY, fields["RateLimit-Policy"])
    assert re.fullmatch(LEFT, fields["RateLimit"])
