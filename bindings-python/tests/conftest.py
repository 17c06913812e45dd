from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import berth
from support import Broker, Peer

# No deadline: a slow machine must not fail a test.
settings.register_profile("berth", deadline=None)
settings.load_profile("berth")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[berth.Bus]:
    async with berth.connect(broker.url) as bus:
        yield bus


@pytest.fixture
async def peer(broker: Broker) -> AsyncIterator[Peer]:
    peer = await Peer.connect(broker.url)
    yield peer
    await peer.close()
