"""The user of sinks may do what sinks do, and nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import NoPermissionError

from tests.integration.integrations.published import publish, wait_until
from tests.integration.sinks.endpoints import Endpoint, sink_config, webhook
from tests.integration.sinks.serving import serving
from tests.security.access import GuardedRedis
from worker.acts import Act
from worker.queue.ledger.actions import ActionLog
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.sinks import operations
from worker.sinks.delivery_policy import DeliveryPolicy

if TYPE_CHECKING:
    from pathlib import Path

KEYS = Keys("trainmaster")
HASTY = DeliveryPolicy(
    first_seconds=0.05, longest_seconds=0.1, retry_seconds=0.3, probe_seconds=0.05
)


async def test_sinks_do_all_their_work_with_the_rights_of_the_file_and_write_no_event(
    tmp_path: Path,
) -> None:
    endpoint = Endpoint()
    with GuardedRedis(tmp_path / "redis") as server:
        admin, user = connect(server.url), connect(server.url_of("sinks"))
        try:
            async with endpoint.serving():
                config = sink_config("ops", tmp_path, webhook=webhook(endpoint.url))
                async with serving(user, KEYS, config, policy=HASTY):
                    await publish(admin, KEYS, "a", range(3))
                    await wait_until(lambda: len(endpoint.events()) == 3)
                    endpoint.always = 500
                    await publish(admin, KEYS, "b", range(2))
                    async with asyncio.timeout(60):
                        while (await operations.sink_status(user, KEYS, config)).state != "paused":
                            await asyncio.sleep(0.02)
                    endpoint.always = 200
                    await operations.resume(user, KEYS, "ops")
                    await wait_until(lambda: len(endpoint.events()) == 5)
                    await operations.recover(user, KEYS, "ops", 0)
                    await operations.recover_all(user, KEYS, "ops", 0)
                    await wait_until(lambda: endpoint.times("a/retrying/0") == 2)
                async with ActionLog(user, KEYS).recorded("ann", Act.SINK_RECOVER, "ops") as entry:
                    entry.done()
            assert await admin.acl_log() == []
            assert await admin.xlen(KEYS.actions) == 1
            for key in (KEYS.events, KEYS.commands):
                with pytest.raises(NoPermissionError):
                    await user.xadd(key, {"event": "{}"})
            with pytest.raises(NoPermissionError):
                await user.xrange(KEYS.actions)
            with pytest.raises(NoPermissionError):
                await user.hgetall(KEYS.command("any"))
        finally:
            await admin.aclose()
            await user.aclose()
