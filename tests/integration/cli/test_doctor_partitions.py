"""What `trainmaster doctor` says of workers that know other namespaces than are named here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.cli.doctor.checks import Level
from worker.cli.doctor.ledger import check_partitions
from worker.queue.ledger.workers import Workers, WorkerStatus

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


@pytest.mark.parametrize(
    ("served", "level"),
    [
        # It may be all that its Redis has.
        (("eu",), Level.OK),
        # Of an older version, which does not tell.
        ((), Level.OK),
        (("us", "eu"), Level.OK),
        (("eu", "apac"), Level.WARN),
        (("eu", "us", "apac"), Level.WARN),
    ],
)
async def test_a_worker_of_other_namespaces_is_a_warning_and_one_of_a_single_one_is_none(
    redis: Redis, keys: Keys, served: tuple[str, ...], level: Level
) -> None:
    seconds, _ = await redis.time()
    status = WorkerStatus(
        name="host-1-ab",
        host="host",
        pid=1,
        version="1.2.3",
        python="3.12.1",
        started_ms=seconds * 1000,
        seen_ms=seconds * 1000,
        slots=20,
        slots_used=0,
        loop_lag_seconds=0.25,
        breaker_open=False,
        stopping=False,
        partitions=served,
    )
    await Workers(redis, keys).tell(status)
    assert [each.level for each in await check_partitions(redis, keys, ("eu", "us"))] == [level]
