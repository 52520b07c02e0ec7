"""A simulated replica for each test that asks for one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from replica_world import Client, Subscriber, replica_client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with replica_client() as made:
        yield made


@pytest.fixture
async def subscriber(client: Client) -> AsyncIterator[Subscriber]:
    """Subscribed to the replica of ``client``."""
    made = Subscriber(client.replica)
    await made.joined(client)
    yield made
    made.close()
