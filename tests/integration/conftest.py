"""A real broker, started once a run on free ports in a home of its own, and stopped at the end."""

from collections.abc import Iterator

import pytest

from tests.broker import running


@pytest.fixture(scope="session")
def kafka() -> Iterator[str]:
    """Bootstrap address of a real Apache Kafka."""
    with running() as broker:
        yield broker.bootstrap
