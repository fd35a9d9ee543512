"""Rules of word that a run leaves of what it created: it is for its own command alone."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tests.integration.ledger_acts import lease_one
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
