"""What a backfill does once however often its leader says so: shelve a part, tell progress."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import orjson
import pytest

from tests.integration.backfilling import LEASE_MS, NAME, Backfilling, begin
from tests.integration.ledger_acts import now_ms, raw_events
from worker.backfill.errors import LeadLostError, OutputError
from worker.backfill.keys import backfill_key
from worker.backfill.leader import Leader
from worker.backfill.results.output import Output
from worker.backfill.results.parts import Collector
from worker.backfill.status import BackfillState
from worker.backfill.store import PROGRESS_MILLISECONDS, LeadToken, Transition

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill of thirty items in parts of seven."""
    return await begin(redis, keys, ledger, tmp_path)


async def written_part(night: Backfilling, ended: int) -> tuple[LeadToken, str]:
    """Ends items and writes a part of the first seven; returns the leader and what it holds."""
    await night.feed(ended)
    for lease in await night.claim():
        await night.settle(lease)
    await night.let_lease_end()
    token, standing = await night.lead()
    collector = Collector(night.store, Output(night.plan.output))
    cut = await collector._cut(standing)
    await night.store.begin_part(NAME, token, cut)
    await collector._write(standing, cut)
    return token, cut


async def shelved(night: Backfilling) -> tuple[int, int, int]:
    """Returns how many parts are shelved, how many results they hold, and how many wait."""
    part, collected = await night.redis.hmget(backfill_key(night.keys, NAME), "part", "collected")
    waiting = await night.redis.xlen(night.keys.group_results(NAME))
    return int(part or 0), int(collected or 0), waiting


async def test_a_part_that_is_shelved_twice_counts_once_and_forgets_nothing_else(
    night: Backfilling,
) -> None:
    """The reply to the first time was lost: the leader, or the next one, says so again."""
    token, cut = await written_part(night, ended=10)
    await night.store.commit_part(NAME, token, cut)
    assert await shelved(night) == (1, 7, 3)
    with pytest.raises(LeadLostError):
        await night.store.commit_part(NAME, token, cut)
    assert await shelved(night) == (1, 7, 3)
    await night.let_lease_end()
    newer, _ = await night.lead()
    with pytest.raises(LeadLostError):
        await night.store.commit_part(NAME, newer, cut)
    assert await shelved(night) == (1, 7, 3)


async def test_a_part_is_shelved_once_though_the_next_one_is_being_written(
    night: Backfilling,
) -> None:
    """A call that comes late must not pass for the next part's."""
    token, cut = await written_part(night, ended=17)
    await night.store.commit_part(NAME, token, cut)
    standing = await night.standing()
    collector = Collector(night.store, Output(night.plan.output))
    following = await collector._cut(standing)
    await night.store.begin_part(NAME, token, following)
    with pytest.raises(LeadLostError):
        await night.store.commit_part(NAME, token, cut)
    assert await shelved(night) == (1, 7, 10)
    assert (await night.standing()).cut == following
    await collector.collect(await night.standing(), token, rest=False)
    assert await shelved(night) == (2, 14, 3)
    assert night.items() == sorted(int(seen.rpartition("/")[2]) for seen in night.seen[:14])


async def test_a_part_is_not_cut_while_another_one_is_being_written(night: Backfilling) -> None:
    token, cut = await written_part(night, ended=10)
    with pytest.raises(LeadLostError):
        await night.store.begin_part(NAME, token, "0-1 0-2 2")
    assert (await night.standing()).cut == cut


async def test_a_part_whose_results_are_gone_is_not_written_and_leaves_no_half_of_it(
    night: Backfilling,
) -> None:
    """Someone took results away; a part with less than it is said to hold would be a lie."""
    await night.feed(7)
    for lease in await night.claim():
        await night.settle(lease)
    await night.let_lease_end()
    token, standing = await night.lead()
    output = Output(night.plan.output)
    collector = Collector(night.store, output)
    await night.store.begin_part(NAME, token, await collector._cut(standing))
    await night.redis.xtrim(night.keys.group_results(NAME), maxlen=5, approximate=False)
    with pytest.raises(OutputError, match="holds 5 of 7 results: the others are gone"):
        await collector.collect(await night.standing(), token, rest=True)
    assert output.folder is not None
    assert [each.name for each in output.folder.rglob("*")] == ["parts"]


async def test_a_leader_that_was_followed_by_another_shelves_nothing(night: Backfilling) -> None:
    token, cut = await written_part(night, ended=10)
    await night.let_lease_end()
    newer, _ = await night.lead()
    with pytest.raises(LeadLostError):
        await night.store.commit_part(NAME, token, cut)
    assert await shelved(night) == (0, 0, 10)
    await night.store.commit_part(NAME, newer, cut)
    assert await shelved(night) == (1, 7, 3)


async def tell(night: Backfilling, token: LeadToken, event: bytes, told: str) -> None:
    await night.store.lead(
        NAME,
        token,
        lease_ms=LEASE_MS,
        progress=(event, told),
        replies=night.keys.replies("sender"),
    )


async def told(night: Backfilling) -> list[bytes]:
    """Returns the events of progress, after a look that replies and events have the same."""
    found = await raw_events(night.redis, night.keys.events)
    assert await raw_events(night.redis, night.keys.replies("sender")) == found
    return found


async def let_pause_end(night: Backfilling) -> None:
    """Does what time does to the pause between two events of progress."""
    at = await now_ms(night.redis) - PROGRESS_MILLISECONDS
    await night.redis.hset(backfill_key(night.keys, NAME), "progress_at", str(at))


async def test_the_same_progress_is_told_once_whoever_leads_and_however_late(
    night: Backfilling,
) -> None:
    token, _ = await night.lead()
    await tell(night, token, b"{}", "running-7-0")
    assert await told(night) == [b"{}"]
    # The reply was lost, and the leader says it again; so does its successor, much later.
    await tell(night, token, b"{}", "running-7-0")
    await let_pause_end(night)
    await tell(night, token, b"{}", "running-7-0")
    await night.let_lease_end()
    newer, _ = await night.lead()
    await tell(night, newer, b"{}", "running-7-0")
    assert await told(night) == [b"{}"]


async def test_progress_is_told_after_a_pause_and_never_sooner(night: Backfilling) -> None:
    token, _ = await night.lead()
    await tell(night, token, b"1", "running-7-0")
    await tell(night, token, b"2", "running-7-1")
    assert await told(night) == [b"1"]
    await let_pause_end(night)
    await tell(night, token, b"3", "running-7-2")
    assert await told(night) == [b"1", b"3"]
    await tell(night, token, b"4", "running-7-3")
    assert await told(night) == [b"1", b"3"], "the pause begins anew with each that is told"


async def test_progress_is_told_though_the_clock_of_redis_went_back(night: Backfilling) -> None:
    """Or nothing would be told for as long as it went back."""
    token, _ = await night.lead()
    ahead_ms = await now_ms(night.redis) + 3_600_000
    await night.redis.hset(backfill_key(night.keys, NAME), "progress_at", str(ahead_ms))
    await tell(night, token, b"1", "running-7-0")
    await tell(night, token, b"2", "running-7-1")
    assert await told(night) == [b"1"]


@pytest.mark.parametrize("end", ["its own", "its command's"])
async def test_no_progress_is_told_behind_the_end(night: Backfilling, end: str) -> None:
    """What its leader tells is what it saw last: the backfill may have ended since."""
    token, _ = await night.lead()
    await tell(night, token, b"1", "running-7-0")
    await let_pause_end(night)
    if end == "its own":
        await night.store.transition(
            NAME, Transition({BackfillState.RUNNING}, BackfillState.SUCCEEDED)
        )
    else:
        await night.redis.hset(night.keys.group(NAME), "orphaned", "1")
    await tell(night, token, b"2", "running-30-30")
    assert await told(night) == [b"1"]


async def test_who_leads_no_more_tells_no_progress(night: Backfilling) -> None:
    token, _ = await night.lead()
    await night.let_lease_end()
    newer, _ = await night.lead()
    await tell(night, token, b"late", "running-7-0")
    assert await told(night) == []
    await tell(night, newer, b"new", "running-7-0")
    assert await told(night) == [b"new"]


async def test_the_sender_of_a_backfill_gets_its_progress_in_the_reply_stream_too(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    night = await begin(redis, keys, ledger, tmp_path, reply_to="sender")
    async with night.working():
        await Leader(night.store, NAME, announces=False).work()
    progress = await told(night)
    assert progress
    assert {orjson.loads(each)["type"] for each in progress} == {"backfill.progressed"}


async def test_a_reply_stream_of_the_wrong_type_keeps_nobody_from_leading(
    night: Backfilling,
) -> None:
    """A producer chose its name; the backfill goes its way, and the events stream has it all."""
    replies = night.keys.replies("sender")
    await night.redis.set(replies, "x")
    token, _ = await night.lead()
    await tell(night, token, b"1", "running-7-0")
    assert await raw_events(night.redis, night.keys.events) == [b"1"]
    assert await night.redis.get(replies) == b"x"


async def test_items_outlive_a_key_of_their_group_that_holds_something_else(
    night: Backfilling,
) -> None:
    """Deleted with it, they would leave a backfill that never ends once the key is put right."""
    redis, keys = night.redis, night.keys
    await night.feed(3)
    await redis.rename(keys.group(NAME), keys.group("kept"))
    await redis.set(keys.group(NAME), "of somebody else")
    assert await night.claim() == []
    await redis.rename(keys.group("kept"), keys.group(NAME))
    assert (await night.standing()).open == 3
    for item in cast("list[bytes]", await redis.zrange(keys.due_bulk, 0, -1)):
        await redis.zadd(keys.due_bulk, {item: 0}, xx=True)
    assert len(await night.claim()) == 3
