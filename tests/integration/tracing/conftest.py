"""What the tests of traces share: a collector, and workers that send it their spans."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.collector import collecting
from tests.console import Console

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.collector import Collector
    from tests.console import Served


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector of the test's own."""
    with collecting() as running:
        yield running


@pytest.fixture
def traced(
    redis_url: str, namespace: str, served: Served, collector: Collector, tmp_path: Path
) -> Console:
    """The console script, on the run's sandbox, whose spans the collector gets."""
    sandbox = served.sandbox
    return Console(
        redis_url,
        namespace,
        ENCORD_DOMAIN=sandbox.told["domain"],
        ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
        TRAINMASTER_POLL_MIN_SECONDS="0.5",
        TRAINMASTER_RETRY_MIN_SECONDS="0.2",
        TRAINMASTER_RETRY_MAX_SECONDS="0.5",
        TRAINMASTER_LEASE_SECONDS="2",
        TRAINMASTER_LONG_POLL_CONCURRENCY="0",
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        TRAINMASTER_DATA_ROOTS=str(tmp_path),
        **collector.environment(),
    )
