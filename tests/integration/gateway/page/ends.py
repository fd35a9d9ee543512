"""Commands that end as a test says, without a worker."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson
from redis.exceptions import ResponseError

from schemas.enums import EventState
from schemas.parsing import parse_command
from tests.integration.ledger_acts import accept, open_group
from worker.queue.ledger.event_builder import build_event
from worker.queue.ledger.ledger import Ledger
from worker.queue.ledger.models import RowState, RunResult

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from tests.integration.gateway.page.browser import Backstage
    from worker.queue.ledger.keys import Keys


def ledger_of(redis: Redis, keys: Keys) -> Ledger:
    """Returns a ledger that keeps what predictions were sent with."""
    return Ledger(
        redis,
        keys,
        lease_seconds=30,
        retention_seconds=3600,
        reply_retention_seconds=3600,
        text_retention_seconds=3600,
    )


def succeed(backstage: Backstage, command: Mapping[str, Any], result: Any) -> None:
    """Has a command accepted and succeed with a result, as a worker does."""
    text = orjson.dumps(command)
    command_id = command["id"]

    async def act(redis: Redis, keys: Keys) -> None:
        ledger = ledger_of(redis, keys)
        with suppress(ResponseError):
            await open_group(redis, keys)
        await accept(redis, ledger, **command)
        leases = (await ledger.claim(100, bulk_most=100)).leases
        (lease,) = [each for each in leases if each.command_id == command_id]
        data = {"result": result, "attempts": 1, "duration_seconds": 1.5}
        event = build_event(
            parse_command(text).command,
            lease.entry_id,
            command_id,
            EventState.SUCCEEDED,
            data,
            now=time.time(),
        )
        end = RunResult(lease, RowState.SUCCEEDED, 1, event=event, keeps_text=True)
        assert await ledger.finish([end]) == [True]

    backstage.do(act)
