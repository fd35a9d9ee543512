"""What `trainmaster doctor` says of workers that know other namespaces than are named here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.ledger_acts import WORKER_STATUS
from worker.cli.doctor.checks import Level
from worker.cli.doctor.ledger import check_partitions
from worker.queue.ledger.workers import Workers

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
    status = replace(
        WORKER_STATUS, started_ms=seconds * 1000, seen_ms=seconds * 1000, partitions=served
    )
    await Workers(redis, keys).tell(status)
    assert [each.level for each in await check_partitions(redis, keys, ("eu", "us"))] == [level]
