"""How often one client, or one address, may ask."""

import time

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, RedisStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from fed_compute.errors import ExtraMissing, RateLimited, RateStoreUnreachable, SettingInvalid

IN_MEMORY = "memory://"
_TIMEOUT_SECONDS = 2.0


class RateLimiter:
    """Allows, or says how long to wait. Counts in a moving window.

    The counts lie in memory of this process, where they survive no restart, or in a Redis or Valkey
    that all replicas share. The `limits` library reads the system's clock itself.
    """

    def __init__(
        self,
        *,
        requests_per_minute: int,
        updates_per_minute: int,
        registrations_per_hour: int,
        url: str = IN_MEMORY,
    ) -> None:
        """Open the store of the counts.

        Raises:
            SettingInvalid: if `url` names no store that can count.
            ExtraMissing: if the library for Redis is not installed.
            RateStoreUnreachable: if the store does not answer.
        """
        self._limiter = MovingWindowRateLimiter(_open_storage(url))
        self._requests = RateLimitItemPerMinute(requests_per_minute, namespace="requests")
        self._updates = RateLimitItemPerMinute(updates_per_minute, namespace="updates")
        self._registrations = RateLimitItemPerHour(registrations_per_hour, namespace="registrations")

    def request(self, client_id: str) -> None:
        """Count one request of a client.

        Raises:
            RateLimited: if the client has used up its requests; the request is not counted.
            RateStoreUnreachable: if the store of the counts does not answer; so for the other two.
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
        try:
            if self._limiter.hit(item, key):
                return
            resets_at = self._limiter.get_window_stats(item, key).reset_time
        except StorageError as error:
            raise RateStoreUnreachable() from error
        raise RateLimited(
            limit=f"{item.amount} {what} per {item.GRANULARITY.name}",
            retry_after_seconds=max(1.0, resets_at - time.time()),
        )


def _open_storage(url: str) -> MemoryStorage | RedisStorage:
    if url == IN_MEMORY:
        return MemoryStorage()
    if url.partition("://")[0] not in ("redis", "rediss", "redis+unix"):
        raise SettingInvalid("rate_limit_url is no URL of a rate store, wanted memory:// or redis://host:port/database")
    timeouts = {"socket_connect_timeout": _TIMEOUT_SECONDS, "socket_timeout": _TIMEOUT_SECONDS}
    try:
        storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    except ConfigurationError as error:
        raise ExtraMissing(what="a Redis for rate limits", extra="redis") from error
    if not isinstance(storage, RedisStorage):
        raise SettingInvalid("rate_limit_url names a store without moving windows, wanted redis://host:port/database")
    if not storage.check():
        raise RateStoreUnreachable()
    return storage
