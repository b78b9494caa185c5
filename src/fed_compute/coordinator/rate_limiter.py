"""How often, and how much, one client, one key or one network may send."""

from dataclasses import dataclass
from enum import StrEnum

from limits.errors import ConfigurationError, StorageError
from limits.storage import RedisStorage, storage_from_string

from fed_compute.clock import Clock, SystemClock
from fed_compute.coordinator.rate_windows import (
    LocalWindows,
    Windows,
    WindowState,
    seconds_of_window,
    seconds_to_wait,
    weighted,
)
from fed_compute.errors import ExtraMissing, RateLimited, RateStoreUnreachable, SettingInvalid
from fed_compute.storage.tally import Tally

IN_MEMORY = "memory://"
MINUTE, HOUR = 60, 3600
REQUESTS, BYTES = "requests", "content-bytes"
"""The units of draft-ietf-httpapi-ratelimit-headers."""

_TIMEOUT_SECONDS = 2.0
_SPANS = {MINUTE: "minute", HOUR: "hour"}


class Limit(StrEnum):
    """What is limited, by the stable name that answers tell. Networks are counted apart from clients."""

    REQUESTS = "requests"
    UPDATES = "updates"
    UPLOADS = "upload-bytes"
    REGISTRATIONS = "registrations"
    FAILURES = "failed-authentications"
    NETWORK_REQUESTS = "network-requests"
    NETWORK_UPDATES = "network-updates"
    NETWORK_UPLOADS = "network-upload-bytes"


@dataclass(frozen=True, slots=True)
class Policy:
    """So many units of one limit within a window. `of` says in words what is counted."""

    quota: int
    window_seconds: int
    of: str
    unit: str = REQUESTS

    def __str__(self) -> str:
        return f"{self.quota} {self.of} per {_SPANS[self.window_seconds]}"


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a limit: `remaining` units, of which there will be more in `seconds` at the latest."""

    limit: Limit
    policy: Policy
    remaining: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Quotas:
    """The numbers of all limits. Those of a network hold for a whole prefix: /24 in IPv4, /48 in IPv6."""

    requests_per_minute: int = 1200
    updates_per_minute: int = 300
    upload_mib_per_hour: int = 20_480
    registrations_per_hour: int = 600
    failed_authentications_per_minute: int = 30
    network_requests_per_minute: int = 30_000
    network_updates_per_minute: int = 12_000
    network_upload_mib_per_hour: int = 204_800

    def policies(self) -> dict[Limit, Policy]:
        """Return every limit as quota and window."""
        return {
            Limit.REQUESTS: Policy(self.requests_per_minute, MINUTE, "requests"),
            Limit.UPDATES: Policy(self.updates_per_minute, MINUTE, "updates"),
            Limit.UPLOADS: Policy(self.upload_mib_per_hour << 20, HOUR, "bytes sent", unit=BYTES),
            Limit.REGISTRATIONS: Policy(self.registrations_per_hour, HOUR, "registrations from one network"),
            Limit.FAILURES: Policy(
                self.failed_authentications_per_minute, MINUTE, "failed authentications from one network"
            ),
            Limit.NETWORK_REQUESTS: Policy(self.network_requests_per_minute, MINUTE, "requests from one network"),
            Limit.NETWORK_UPDATES: Policy(self.network_updates_per_minute, MINUTE, "updates from one network"),
            Limit.NETWORK_UPLOADS: Policy(
                self.network_upload_mib_per_hour << 20, HOUR, "bytes sent from one network", unit=BYTES
            ),
        }


class RateLimiter:
    """Allows, or says how long to wait. Counts in sliding windows.

    The counts lie in memory of this process, where they survive no restart, or in a Redis or Valkey
    that all replicas share. Every method raises `RateStoreUnreachable` if that one does not answer.
    """

    def __init__(self, quotas: Quotas, *, url: str = IN_MEMORY, clock: Clock | None = None) -> None:
        """Open the store of the counts. A Redis goes by its own clock, memory by `clock`.

        Raises:
            SettingInvalid: if `url` names no store that can count.
            ExtraMissing: if the library for Redis is not installed.
            RateStoreUnreachable: if the store does not answer.
        """
        self._policies = quotas.policies()
        self.refusals: Tally[Limit] = Tally()
        self.may_block = url != IN_MEMORY
        """Whether a call may wait for the network."""
        self._windows: Windows = (
            _open_redis(url) if self.may_block else LocalWindows((clock or SystemClock()).monotonic)
        )

    def charge(self, limit: Limit, subject: str, *, cost: int = 1) -> None:
        """Count `cost` units of a client, key or network. What is above a whole quota costs the whole quota.

        Raises:
            RateLimited: if that is more than is left; nothing is counted.
        """
        policy = self._policies[limit]
        cost = min(cost, policy.quota)
        try:
            if self._windows.acquire_sliding_window_entry(
                _name(limit, subject), policy.quota, policy.window_seconds, cost
            ):
                return
        except StorageError as error:
            raise RateStoreUnreachable() from error
        raise self._refusal(limit, self._state(limit, subject), cost=cost)

    def require_left(self, limit: Limit, subject: str) -> None:
        """Check that one more unit could be counted, and count nothing.

        Raises:
            RateLimited: if it could not.
        """
        policy, state = self._policies[limit], self._state(limit, subject)
        if weighted(state, policy.window_seconds) >= policy.quota:
            raise self._refusal(limit, state, cost=1)

    def left(self, limit: Limit, subject: str) -> Allowance:
        """Return what is left of a limit."""
        policy, state = self._policies[limit], self._state(limit, subject)
        remaining = max(0, policy.quota - weighted(state, policy.window_seconds))
        wait = seconds_to_wait(state, limit=policy.quota, cost=1, window_seconds=policy.window_seconds)
        return Allowance(limit, policy, remaining, wait or seconds_of_window(state, policy.window_seconds))

    def request(self, client_id: str) -> None:
        """Count one request of a client.

        Raises:
            RateLimited: if the client has used up its requests; the request is not counted.
        """
        self.charge(Limit.REQUESTS, client_id)

    def update(self, client_id: str) -> None:
        """Count one update of a client, accepted or not.

        Raises:
            RateLimited: if the client has used up its updates; the update is not counted.
        """
        self.charge(Limit.UPDATES, client_id)

    def registration(self, network: str) -> None:
        """Count one registration from a network.

        Raises:
            RateLimited: if the network has used up its registrations.
        """
        self.charge(Limit.REGISTRATIONS, network)

    def _state(self, limit: Limit, subject: str) -> WindowState:
        try:
            return self._windows.get_sliding_window(_name(limit, subject), self._policies[limit].window_seconds)
        except StorageError as error:
            raise RateStoreUnreachable() from error

    def _refusal(self, limit: Limit, state: WindowState, *, cost: int) -> RateLimited:
        self.refusals.add(limit)
        policy = self._policies[limit]
        wait = seconds_to_wait(state, limit=policy.quota, cost=cost, window_seconds=policy.window_seconds)
        return RateLimited(
            limit=str(policy),
            retry_after_seconds=max(1.0, wait),
            policy=limit,
            quota=policy.quota,
            window_seconds=policy.window_seconds,
            remaining=max(0, policy.quota - weighted(state, policy.window_seconds)),
            unit=policy.unit,
        )


def _name(limit: Limit, subject: str) -> str:
    return f"{limit}/{subject}"


def _open_redis(url: str) -> RedisStorage:
    if url.partition("://")[0] not in ("redis", "rediss", "redis+unix"):
        raise SettingInvalid("rate_limit_url is no URL of a rate store, wanted memory:// or redis://host:port/database")
    timeouts = {"socket_connect_timeout": _TIMEOUT_SECONDS, "socket_timeout": _TIMEOUT_SECONDS}
    try:
        storage = storage_from_string(url, wrap_exceptions=True, **timeouts)
    except ConfigurationError as error:
        raise ExtraMissing(what="a Redis for rate limits", extra="redis") from error
    if not isinstance(storage, RedisStorage):
        raise SettingInvalid("rate_limit_url names a store without sliding windows, wanted redis://host:port/database")
    if not storage.check():
        raise RateStoreUnreachable()
    return storage
