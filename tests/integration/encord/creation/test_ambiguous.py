"""Who else may have created what the API lists: for how long, and what its row says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from worker.encord.creation.ambiguous import DAY_SECONDS, SPARE_SECONDS, AmbiguousCreations, Creator
from worker.encord.creation.keys import ambiguous_key

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

WEEK = 7 * DAY_SECONDS
HIDDEN = 3600
NAME = "training:alike"
# A rival that began now is shown for sure so long after.
SHOWN = HIDDEN + WEEK

ASKING = Creator("own", HIDDEN, "1-0", "asking")
RIVAL = Creator("another", HIDDEN, "2-0", "a rival, and its blanks")
TWIN = replace(ASKING, entry_id="3-0", command_id="twin")

UNKNOWN = {"s": "failed"}
GONE: dict[str, Any] = {}
IN_DOUBT = {"s": "in_doubt", "h": "in_doubt"}
RUNNING = {"s": "running"}
OWNING = {"s": "running", "h": "applied"}


@pytest.fixture
async def ambiguous(redis: Redis, keys: Keys) -> AmbiguousCreations:
    """With the asking command, which began a day after the time 0."""
    begun = AmbiguousCreations(redis, keys, WEEK)
    await begun.enter(NAME, ASKING, DAY_SECONDS)
    return begun


async def row(redis: Redis, keys: Keys, creator: Creator, is_now: dict[str, Any]) -> None:
    key = keys.command(creator.command_id)
    await redis.delete(key)
    if is_now:
        await redis.hset(key, mapping=cast("Any", is_now | {"q": creator.entry_id}))


async def conflicts(ambiguous: AmbiguousCreations, since: float) -> list[str]:
    return (await ambiguous.others(NAME, ASKING, since, now=since + DAY_SECONDS)).conflicts


@pytest.mark.parametrize("ended", [UNKNOWN, GONE], ids=["its row is kept", "its row is gone"])
async def test_a_rival_that_ended_unknown_counts_until_the_api_shows_what_it_made(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations, ended: dict[str, Any]
) -> None:
    """Who listed what existed only after that has it in its list; who did before never adopts."""
    await ambiguous.enter(NAME, RIVAL, 0)
    await row(redis, keys, RIVAL, ended)
    assert await conflicts(ambiguous, since=1) == [RIVAL.command_id]
    assert await conflicts(ambiguous, since=SHOWN) == [RIVAL.command_id]
    # However late it asks, what counts is what it could know when it began.
    late = await ambiguous.others(NAME, ASKING, since=SHOWN, now=100 * SHOWN)
    assert late.conflicts == [RIVAL.command_id]
    assert await conflicts(ambiguous, since=SHOWN + 1) == []


async def test_a_rival_that_has_not_ended_counts_however_old_it_is(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    await ambiguous.enter(NAME, RIVAL, 0)
    for is_now in (IN_DOUBT, RUNNING, {**IN_DOUBT, "h": b"\xff"}):
        await row(redis, keys, RIVAL, is_now)
        assert await conflicts(ambiguous, since=100 * SHOWN) == [RIVAL.command_id]
    for is_now in (OWNING, {"s": "polling"}, {"s": "polling", "h": b"\xff"}):
        await ambiguous.enter(NAME, RIVAL, 0)
        await row(redis, keys, RIVAL, is_now)
        assert await conflicts(ambiguous, since=1) == [], is_now


async def test_a_short_retention_never_takes_a_rival_for_shown_within_a_day(
    redis: Redis, keys: Keys
) -> None:
    ambiguous = AmbiguousCreations(redis, keys, 1)
    await ambiguous.enter(NAME, RIVAL, 0)
    assert await conflicts(ambiguous, since=HIDDEN + DAY_SECONDS) == [RIVAL.command_id]
    assert await conflicts(ambiguous, since=HIDDEN + DAY_SECONDS + 1) == []


async def test_another_command_of_a_rivals_id_says_nothing_of_what_the_rival_made(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    """Ids may be used anew once they are forgotten."""
    await ambiguous.enter(NAME, RIVAL, 0)
    await row(redis, keys, replace(RIVAL, entry_id="4-0"), OWNING)
    assert await conflicts(ambiguous, since=1) == [RIVAL.command_id]
    await ambiguous.leave(NAME, replace(RIVAL, entry_id="4-0"))
    assert await conflicts(ambiguous, since=1) == [RIVAL.command_id]
    await ambiguous.leave(NAME, RIVAL)
    assert await conflicts(ambiguous, since=1) == []


async def test_only_a_twin_that_may_have_created_one_explains_a_further_thing(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    """One too many would have a stranger's thing adopted."""
    await ambiguous.enter(NAME, TWIN, 0)

    async def twins(since: float) -> int:
        return (await ambiguous.others(NAME, ASKING, since, now=since + DAY_SECONDS)).twins

    for is_now, counted in ((RUNNING, 1), (OWNING, 1), (IN_DOUBT, 2), (UNKNOWN, 2), (GONE, 2)):
        await ambiguous.enter(NAME, TWIN, 0)
        await row(redis, keys, TWIN, is_now)
        assert await twins(since=DAY_SECONDS) == counted, is_now
    assert await twins(since=SHOWN + 1) == 1


async def test_what_twins_in_doubt_listed_before_they_began_is_told(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    """They never take it for their own, so whoever may take it had better do so."""
    for creator, baseline in ((TWIN, '["a", "b"]'), (RIVAL, '["c"]')):
        await ambiguous.enter(NAME, creator, 0)
        await row(redis, keys, creator, {**IN_DOUBT, "p": f'{{"baseline": {baseline}}}'})
    others = await ambiguous.others(NAME, ASKING, 1, now=1 + DAY_SECONDS)
    assert others.known_to_twins == {"a": 1, "b": 1}
    await row(redis, keys, TWIN, {**IN_DOUBT, "p": "written over"})
    others = await ambiguous.others(NAME, ASKING, 1, now=1 + DAY_SECONDS)
    assert (others.twins, dict(others.known_to_twins)) == (2, {})


async def test_who_is_of_use_to_nobody_any_more_leaves(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    """Not before all that began earlier have ended, for they could not know what it made."""
    key = ambiguous_key(keys, NAME)
    early = replace(RIVAL, entry_id="5-0", command_id="early")
    await ambiguous.enter(NAME, RIVAL, 0)
    await ambiguous.enter(NAME, early, SHOWN - 1)
    await row(redis, keys, early, IN_DOUBT)
    assert await conflicts(ambiguous, since=SHOWN + DAY_SECONDS + 1) == ["early"]
    assert await redis.zscore(key, RIVAL.member) == 0
    await row(redis, keys, early, UNKNOWN)
    assert await conflicts(ambiguous, since=SHOWN + DAY_SECONDS + 1) == ["early"]
    assert await redis.zscore(key, RIVAL.member) is None
    await row(redis, keys, early, OWNING)
    assert await conflicts(ambiguous, since=1) == []
    assert await redis.zrange(key, 0, -1) == [ASKING.member.encode()]


async def test_a_rival_from_before_the_clock_went_back_counts_once_as_long(
    ambiguous: AmbiguousCreations,
) -> None:
    await ambiguous.enter(NAME, RIVAL, 100 * SHOWN)
    asked = await ambiguous.others(NAME, ASKING, since=DAY_SECONDS, now=2 * DAY_SECONDS)
    assert asked.conflicts == [RIVAL.command_id]
    assert await conflicts(ambiguous, since=2 * DAY_SECONDS + SHOWN) == [RIVAL.command_id]
    assert await conflicts(ambiguous, since=2 * DAY_SECONDS + SHOWN + 1) == []


async def test_what_someone_wrote_into_the_key_counts_as_a_rival_for_its_time(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    await redis.zadd(ambiguous_key(keys, NAME), {b"\xff none": 0})
    assert len(await conflicts(ambiguous, since=WEEK)) == 1
    assert await conflicts(ambiguous, since=WEEK + 1) == []


async def test_the_key_lives_as_long_as_the_one_of_its_commands_that_lasts_longest(
    redis: Redis, keys: Keys, ambiguous: AmbiguousCreations
) -> None:
    year = 365 * DAY_SECONDS
    await ambiguous.enter(NAME, replace(RIVAL, hidden_seconds=year), 0)
    await ambiguous.enter(NAME, TWIN, 0)
    assert await redis.ttl(ambiguous_key(keys, NAME)) > year + WEEK + SPARE_SECONDS - 60
