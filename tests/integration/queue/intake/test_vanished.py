"""Entries that someone deletes or trims before they are accepted: gone, but never in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tests.integration.intake_acts import intake_of, running, until
from tests.integration.ledger_acts import every_server, open_group, read_entry
from worker.queue.ledger.keys import GROUP

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


@pytest.mark.parametrize("way", ["deleted", "trimmed"])
@pytest.mark.parametrize("reader", ["who read it", "who takes it over"])
async def test_an_entry_that_goes_under_a_pending_consumer_is_logged_by(
    redis: Redis, keys: Keys, ledger: Ledger, way: str, reader: str
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    if way == "deleted":
        await redis.xdel(keys.commands, entry)
    else:
        await redis.xtrim(keys.commands, maxlen=0, approximate=False)

    with capture_logs() as lines:

        async def it_is_told() -> bool:
            pending = (await redis.xpending(keys.commands, GROUP))["pending"]
            return pending == 0 and any("vanished" in line["event"] for line in lines)

        if reader == "who read it":
            intake = intake_of(redis, ledger)
            async with running(intake.read):
                await until(it_is_told)
        else:
            intake = intake_of(redis, ledger, consumer="another", consumer_idle_seconds=0.01)
            async with running(intake.take_over):
                await until(it_is_told)
    told = [line for line in lines if line["event"] == "intake.entries_vanished"]
    assert [(line["log_level"], line["entries"]) for line in told] == [("error", [entry.decode()])]
    assert "send them again" in told[0]["advice"]
