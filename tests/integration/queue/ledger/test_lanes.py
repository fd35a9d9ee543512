"""Rules of a paused lane in the ledger: nothing of it is claimed but a probe."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import pytest

from schemas.enums import Priority
from tests.integration.ledger_acts import (
    accept_one,
    every_server,
    new_command,
    open_group,
    read_entry,
)
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.stored_values import moment_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


async def test_a_paused_lane_lets_one_command_through_when_its_pause_is_over(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"id-{number}") for number in range(5)])
    await accept_one(redis, ledger, "bulk", lane=Priority.BULK)
    lanes = Lanes(redis, keys)
    await lanes.pause(Priority.INTERACTIVE, "all fails", 3600)
    claim = await ledger.claim(10, bulk_most=10)
    assert [lease.command_id for lease in claim.leases] == ["bulk"]
    assert claim.paused == {Priority.INTERACTIVE}
    await redis.hset(keys.paused(Priority.INTERACTIVE), "until", 1)
    assert len((await ledger.claim(10)).leases) == 1, "the probe"
    assert (await ledger.claim(10)).leases == []
    assert [pause.reason for pause in await lanes.paused()] == ["all fails"]
    assert await lanes.resume(Priority.INTERACTIVE)
    assert len((await ledger.claim(10)).leases) == 4
    assert not await lanes.resume(Priority.INTERACTIVE)


@pytest.mark.parametrize("odd", [{"until": "x"}, {"until": "9" * 30, "reason": b"\xff"}])
async def test_a_pause_whose_time_others_wrote_is_shown_and_can_be_ended(
    redis: Redis, keys: Keys, odd: dict[str, Any]
) -> None:
    """Each worker asks for it, and was ready no more."""
    lanes = Lanes(redis, keys)
    await lanes.pause(Priority.BULK, "all fails", 3600)
    await cast("Any", redis).hset(keys.paused(Priority.BULK), mapping=odd)
    (pause,) = await lanes.paused()
    assert pause.next_probe_ms in {0, moment_of(math.inf)}
    assert await lanes.resume(Priority.BULK)
    await cast("Any", redis).hset(keys.paused(Priority.BULK), "reason", "without a time it is none")
    assert await lanes.paused() == []
