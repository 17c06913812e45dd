from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support import Broker

# No deadline: a slow machine must not fail a test.
settings.register_profile("berth", deadline=None)
settings.load_profile("berth")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(tmp_path)
    yield broker
    broker.stop()
