"""What every test stands on: a clean environment, one thread, repeatable examples."""

import os
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

pytest_plugins = ("tests.leaks",)

# Before anyone imports numpy or torch, and inherited by the processes that tests start.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_name] = "1"

# A shell starts background jobs with SIGINT ignored, and everything they start inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Slowness never fails a test: the machine may be shared. `fast` draws the same examples each time.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", _PATIENT, max_examples=50, derandomize=True)
settings.register_profile("long", _PATIENT, max_examples=2_000, print_blob=True)
settings.load_profile("fast")

PREFIXES = ("FED_COMPUTE", "CLIENT_", "ASYNC_", "INCENTIVE_")
NAMES = ("COORDINATOR_URL", "ENABLE_ASYNC_ROUNDS", "MAX_RETRIES", "SLEEP_BETWEEN_ROUNDS", "RETRY_DELAY")
USER_FOLDERS = ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")


def is_ours(name: str) -> bool:
    """Say whether the product reads the environment variable `name`."""
    return name.startswith(PREFIXES) or name in NAMES


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide the settings and the home folders of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if is_ours(name)]:
            patch.delenv(name)
        for name in USER_FOLDERS:
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        yield


@pytest.fixture(autouse=True)
def logs_as_they_were() -> Iterator[None]:
    """Leave no test's way of logging to the next one: where it wrote may be closed by then."""
    was_configured, before = structlog.is_configured(), structlog.get_config()
    yield
    if was_configured:
        structlog.configure(**before)
    else:
        structlog.reset_defaults()
