"""`trainmaster backfill` where someone wrote over one of several in Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.integration.backfilling import NAME, begin
from worker.backfill.status import Origin

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def test_what_someone_wrote_over_is_a_line_and_hides_no_other_backfill(
    console: Console, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path)
    await night.store.open("day", night.plan, Origin.CONSOLE, "bf-2")
    await redis.hset(keys.group(NAME), "succeeded", "\x1b[2Jmany")
    for command in ("status", "cancel"):
        said = console.run("backfill", command, NAME)
        assert (said.code, said.out) == (1, "")
        assert said.err.startswith(f"Error: backfill {NAME} can't be read: succeeded is ")
        assert len(said.err.splitlines()) == 1
        assert "\x1b" not in said.err
    listed = console.run("backfill", "status", "--json")
    assert [each["id"] for each in listed.lines] == ["day"]
    assert listed.code == 1
    assert f"backfill {NAME} can't be read" in listed.err
