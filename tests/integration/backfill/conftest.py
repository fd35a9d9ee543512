"""One studio for the backfills of a run: the detector is trained once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.backfill.studio import open_studio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.backfill.studio import Studio
    from worker.embedded import EmbeddedRedis


@pytest.fixture(scope="session")
def studio(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    """240 pictures and a detector, with a small window, small parts and short leases."""
    with open_studio(
        redis_server.url,
        tmp_path_factory.mktemp("studio"),
        (101, 102),
        TRAINMASTER_LEASE_SECONDS="2",
        TRAINMASTER_CONSUMER_IDLE_SECONDS="2",
        TRAINMASTER_BACKFILL_WINDOW="40",
        TRAINMASTER_BACKFILL_PART_ITEMS="50",
    ) as found:
        yield found
