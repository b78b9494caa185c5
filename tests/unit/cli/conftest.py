"""Commands set up the logging of their process; the next test must not inherit it."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logging_of_one_command() -> Iterator[None]:
    yield
    structlog.reset_defaults()
