"""Rules of word that a run leaves of what it created: it is for its own command alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.integration.ledger_acts import lease_one
from worker.encord.creation.keys import unsent_key
from worker.encord.creation.orphans import OrphanedCreation, Orphans

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger


async def test_word_for_an_earlier_command_of_the_same_id_is_none_for_a_later_one(
    redis: Redis, ledger: Ledger
) -> None:
    """Its id is forgotten some days after its end; the word of what it created may live on."""
    orphans, keys = Orphans(redis, ledger.keys), ledger.keys
    earlier = await lease_one(redis, ledger)
    word = OrphanedCreation("u", {"a": 1}, keys.lock("model:u"), kept_seconds=60)
    assert await orphans.leave(earlier, word, drop_lock=keys.lock("creating"))
    assert await orphans.find(earlier) == ("u", {"a": 1})
    later = replace(earlier, entry_id="9999999999999-0")
    assert await orphans.find(later) is None
    assert not await redis.exists(orphans.key(later)), "it is of no use to anybody"


@pytest.mark.parametrize("value", [b"", b"someone's", b"[1]", None])
async def test_what_is_no_word_tells_nothing_and_stands_in_no_ones_way(
    redis: Redis, ledger: Ledger, value: bytes | None
) -> None:
    """A command in doubt would not end, or as a defect, for a key that holds something else."""
    orphans = Orphans(redis, ledger.keys)
    lease = await lease_one(redis, ledger)
    for key in (orphans.key(lease), unsent_key(ledger.keys, lease.row_id)):
        if value is None:
            await redis.rpush(key, "a list")
        else:
            await redis.set(key, value)
    assert await orphans.find(lease) is None
    assert not await redis.exists(orphans.key(lease)), "while it exists nothing is adopted"
    assert not await orphans.is_unsent(lease, {"asked_at": 1.5})
