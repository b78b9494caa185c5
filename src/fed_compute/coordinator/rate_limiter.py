"""How often one client, or one address, may ask."""

import time

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from fed_compute.errors import RateLimited


class RateLimiter:
    """Allows, or says how long to wait. Counts in a moving window, in memory of this process.

    The `limits` library reads the system's clock itself; a window survives neither a restart nor
    more than its own length.
    """

    def __init__(self, *, requests_per_minute: int, updates_per_minute: int, registrations_per_hour: int) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._updates = RateLimitItemPerMinute(updates_per_minute, namespace="updates")
        self._registrations = RateLimitItemPerHour(registrations_per_hour, namespace="registrations")

    def request(self, client_id: str) -> None:
        """Count one request of a client.

        Raises:
            RateLimited: if the client has used up its requests; the request is not counted.
        """
        self._hit(self._requests, client_id, "requests")

    def update(self, client_id: str) -> None:
        """Count one update of a client, accepted or not.

        Raises:
            RateLimited: if the client has used up its updates; the update is not counted.
        """
        self._hit(self._updates, client_id, "updates")

    def registration(self, address: str) -> None:
        """Count one registration from a network address.

        Raises:
            RateLimited: if the address has used up its registrations.
        """
        self._hit(self._registrations, address, "registrations")

    def _hit(self, item: RateLimitItem, key: str, what: str) -> None:
        if self._limiter.hit(item, key):
            return
        resets_at = self._limiter.get_window_stats(item, key).reset_time
        raise RateLimited(
            limit=f"{item.amount} {what} per {item.GRANULARITY.name}",
            retry_after_seconds=max(1.0, resets_at - time.time()),
        )
