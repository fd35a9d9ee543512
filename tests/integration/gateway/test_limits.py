"""How much a caller may ask for: what counts as waiting, wherever it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from worker.gateway.limits import Backlog
from worker.gateway.problems import ProblemError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys


async def test_all_that_waits_counts_wherever_it_stands(redis: Redis, keys: Keys) -> None:
    """Unread ones in either stream and in the list of pushed ones; open ones in each due set."""
    for stream in (keys.commands, keys.bulk_commands):
        await redis.xadd(stream, {"command": "{}"})
    await redis.lpush(keys.inbox, "{}")
    for due in (keys.due_interactive, keys.due_bulk, keys.due_suspect):
        await redis.zadd(due, {"one": 1})
    await Backlog(redis, keys, 7).check()
    with pytest.raises(ProblemError, match="6 commands waiting") as refused:
        await Backlog(redis, keys, 6).check()
    assert (refused.value.status, refused.value.code) == (429, "backlog_full")
