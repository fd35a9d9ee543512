"""The epoch: a ledger that someone emptied is not a new one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from tests.integration.ledger_acts import new_command, open_group, read_entry
from worker.errors import LedgerLostError
from worker.queue.ledger.epoch import Epoch

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def test_the_first_worker_leaves_the_epoch_and_the_next_one_learns_it(
    redis: Redis, keys: Keys
) -> None:
    first, second = Epoch(redis, keys), Epoch(redis, keys)
    await first.enter()
    await second.enter()
    assert first.known == second.known
    await second.check()


async def test_a_ledger_that_was_emptied_stops_who_works_and_who_starts_later(
    redis: Redis, keys: Keys
) -> None:
    epoch, later = Epoch(redis, keys), Epoch(redis, keys)
    await epoch.enter()
    await redis.delete(keys.epoch)
    with pytest.raises(LedgerLostError, match="accept-loss"):
        await epoch.check()
    with pytest.raises(LedgerLostError):
        await later.enter()
    assert await later.accept_loss()
    assert not await later.accept_loss()
    await later.enter()
    with pytest.raises(LedgerLostError, match="replaced"):
        await epoch.check()


async def test_a_worker_that_starts_beside_the_first_one_takes_its_witness_for_no_loss(
    redis: Redis, keys: Keys
) -> None:
    """It found no epoch, and when it asks the witness the first one has just left both."""
    first, second = Epoch(redis, keys), Epoch(redis, keys)

    async def recall() -> str:
        await first.enter()
        return first.known

    await second.enter(recall)
    assert second.known == first.known
    assert await second.loss(recall) is None


async def test_nothing_is_accepted_into_a_ledger_that_was_emptied(
    redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    epoch = Epoch(redis, keys)
    await epoch.enter()
    ledger.epoch = epoch.known
    await redis.delete(keys.epoch)
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    with pytest.raises(ResponseError, match="LEDGERLOST"):
        await ledger.accept([new_command(entry, "again")])
    assert not await redis.exists(keys.command("again"))
    assert await redis.xlen(keys.commands) == 1, "the entry waits for whoever accepts the loss"
