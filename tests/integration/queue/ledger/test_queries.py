"""Rules of what people look at: rows, counts, dead letters and their replay, lanes, limits."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import orjson
import pytest
import structlog
from structlog.contextvars import bound_contextvars, get_contextvars

from schemas.enums import EventState, Priority
from schemas.events import event_json
from tests.integration.intake_acts import take_in
from tests.integration.ledger_acts import (
    MODEL_UUID,
    TEXT,
    accept_one,
    events,
    every_server,
    lease_one,
    new_command,
    now_ms,
    open_group,
    read_entry,
)
from worker.cli.formatting import describe_error, show_timestamp
from worker.queue.ledger.command_status import UNREADABLE
from worker.queue.ledger.dead_letters import DeadLetters, dead_letter_json
from worker.queue.ledger.keys import COMMAND_FIELD
from worker.queue.ledger.lanes import Lanes
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.models import SUSPECT_CLAIMS, Lease, Phase, RowState, RunResult
from worker.queue.ledger.outage import Outage
from worker.queue.ledger.queries import LedgerReader, RowChoice
from worker.queue.ledger.rate_limits import PERMIT_PAUSE_SECONDS, RedisLimits
from worker.queue.ledger.streams import entries_between
from worker.queue.telemetry import Listener

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

pytestmark = every_server


async def bury(redis: Redis, keys: Keys, number: int, text: bytes = TEXT, **changes: Any) -> str:
    """Leaves a dead letter; returns its key."""
    values: dict[str, Any] = {
        "command_id": f"id-{number}",
        "command_type": "get_model",
        "error": {"code": "not_found", "message": "m"},
        "text": text,
        "at_ms": number,
        "attempts": 1,
        "history": [],
    }
    letter = dead_letter_json(**{**values, **changes})
    await redis.xadd(keys.dead_letters, {"dead_letter": letter}, id=f"{1000 + number}-0")
    return f"{1000 + number}-0"


async def test_the_status_of_a_command_tells_where_it_stands(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    inspector = LedgerReader(redis, keys)
    assert await inspector.status("one") is None
    lease = await lease_one(redis, ledger)
    error = {"code": "server_error", "message": "m"}
    await ledger.finish([RunResult(lease, RowState.RETRYING, 1, errors=[error], delay_seconds=9)])
    view = await inspector.status("one")
    assert view is not None
    assert (view.state, view.attempts, view.last_error) == (RowState.RETRYING, 1, error)
    assert view.due_at_ms is not None
    assert view.due_at_ms > await now_ms(redis)
    assert view.ended_at_ms is None


async def claim_one(redis: Redis, ledger: Ledger, command_id: str) -> Lease:
    """Accepts and claims a command; other open ones must be claimed already."""
    if not await redis.exists(ledger.keys.commands):
        await open_group(redis, ledger.keys)
    await accept_one(redis, ledger, command_id)
    (lease,) = (await ledger.claim(1)).leases
    return lease


async def end_one(redis: Redis, ledger: Ledger, command_id: str, **changes: Any) -> None:
    """Accepts and ends a command, with the event that a worker writes of it."""
    lease = await claim_one(redis, ledger, command_id)
    event = event_json(
        event_id=f"{command_id}/succeeded",
        command_type="get_model",
        state=EventState.SUCCEEDED,
        subject=command_id,
        time_ms=0,
        data={},
        context={},
    )
    await ledger.finish([RunResult(lease, RowState.SUCCEEDED, 1, event=event, **changes)])


async def change_at(redis: Redis, keys: Keys, **moments_ms: int) -> None:
    """Moves the acceptance or the end of commands to other times."""
    for command_id, at_ms in moments_ms.items():
        name = "e" if await redis.hexists(keys.command(command_id), "e") else "m"
        await redis.hset(keys.command(command_id), name, str(at_ms))


async def newest(redis: Redis, keys: Keys, limit: int = 100, **choice: Any) -> list[str]:
    rows = await LedgerReader(redis, keys).newest(limit, RowChoice(**choice))
    return [row.id for row in rows]


async def test_rows_are_listed_by_their_last_change_whatever_has_ended(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for command_id in ("c", "a"):
        await end_one(redis, ledger, command_id)
    for command_id, lane in (("d", Priority.BULK), ("b", Priority.INTERACTIVE)):
        await accept_one(redis, ledger, command_id, lane=lane)
    await change_at(redis, keys, c=3000, a=1000, d=4000, b=2000)
    assert await newest(redis, keys) == ["d", "c", "b", "a"]
    assert await newest(redis, keys, 2) == ["d", "c"]
    assert await newest(redis, keys, state=RowState.SUCCEEDED) == ["c", "a"]
    assert await newest(redis, keys, state=RowState.ACCEPTED) == ["d", "b"]
    assert await newest(redis, keys, since_ms=3000) == ["d", "c"]
    assert await newest(redis, keys, command_type="get_model") == ["d", "c", "b", "a"]
    assert await newest(redis, keys, command_type="train") == []
    counts = await LedgerReader(redis, keys).counts()
    assert (counts["open_interactive"], counts["open_bulk"], counts["events"]) == (1, 1, 6)


async def test_an_error_and_progress_are_changes(redis: Redis, ledger: Ledger, keys: Keys) -> None:
    leases = {each: await claim_one(redis, ledger, each) for each in ("failed", "made", "idle")}
    await change_at(redis, keys, failed=1000, made=2000, idle=3000)
    error = {"at": "1970-01-01T00:00:05.000+00:00", "code": "server_error", "message": "m"}
    await ledger.finish([
        RunResult(leases["failed"], RowState.RETRYING, 1, errors=[error], delay_seconds=9)
    ])
    await ledger.checkpoint(leases["made"], {"at": 4.0}, phase=Phase.INTENDED)
    assert await newest(redis, keys) == ["failed", "made", "idle"]


async def test_the_newest_of_many_ends_are_found_without_reading_every_row(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """What has ended stands in no index, and there may be a million of it."""
    for number in range(150):
        await end_one(redis, ledger, f"id-{number}")
    before = (await redis.info("commandstats")).get("cmdstat_hgetall", {"calls": 0})["calls"]
    assert await newest(redis, keys, 3) == ["id-149", "id-148", "id-147"]
    after = (await redis.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert after - before <= 100


async def test_an_end_whose_event_is_no_longer_kept_is_listed(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    for command_id in ("a", "b", "c"):
        await end_one(redis, ledger, command_id)
    await redis.delete(keys.events)
    await change_at(redis, keys, a=1000, b=3000, c=2000)
    assert await newest(redis, keys) == ["b", "c", "a"]
    assert await newest(redis, keys, 1) == ["b"]


async def test_counts_of_what_is_open_and_due_add_up_with_suspects_among_them(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """A suspect stands in a set of its own, and is as open as any other."""
    await open_group(redis, keys)
    for command_id in ("a", "b", "c"):
        await accept_one(redis, ledger, command_id)
        await redis.hset(keys.command(command_id), "c", SUSPECT_CLAIMS)
    await ledger.claim(10)
    await accept_one(redis, ledger, "d")
    await accept_one(redis, ledger, "e", lane=Priority.BULK)
    counts = await LedgerReader(redis, keys).counts()
    for kind in ("open", "due"):
        told = [counts[f"{kind}_{lane}"] for lane in ("interactive", "bulk", "suspect")]
        assert told == [1, 1, 3]
    assert len(await newest(redis, keys)) == 5


async def test_listing_goes_through_more_rows_than_one_page(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    await open_group(redis, keys)
    entry = await read_entry(redis, keys)
    await ledger.accept([new_command(entry, f"id-{number:04d}") for number in range(1200)])
    rows = await newest(redis, keys, 2000)
    assert len(set(rows)) == len(rows) == 1200


async def test_dead_letters_are_filtered_oldest_first_over_many_pages(
    redis: Redis, keys: Keys
) -> None:
    for number in range(450):
        code = "not_found" if number % 3 else "poison"
        await bury(redis, keys, number, error={"code": code, "message": "m"})
    letters = DeadLetters(redis, keys)
    assert [letter.at_ms async for letter in letters.list()] == list(range(450))
    assert len([letter async for letter in letters.list(reason="poison")]) == 150
    assert [letter.at_ms async for letter in letters.list(since_ms=1440, limit=3)] == [
        440,
        441,
        442,
    ]
    assert [letter async for letter in letters.list(command_type="train")] == []
    turned = [letter.at_ms async for letter in letters.list(newest_first=True)]
    assert turned == list(reversed(range(450)))
    since = [letter.at_ms async for letter in letters.list(newest_first=True, since_ms=1440)]
    assert since == [at_ms for at_ms in turned if at_ms >= 440]
    latest = letters.list(newest_first=True, since_ms=1440, limit=3)
    assert [letter.at_ms async for letter in latest] == [449, 448, 447]
    assert [letter.at_ms async for letter in letters.list(before=1003)] == [0, 1, 2]
    page = [letter async for letter in letters.list(newest_first=True, before=1440, limit=2)]
    assert [letter.at_ms for letter in page] == [439, 438]
    following = letters.list(newest_first=True, before=page[-1].key, limit=2)
    assert [letter.at_ms async for letter in following] == [437, 436]
    for beginning in (0, "0-0"):
        assert [letter async for letter in letters.list(before=beginning)] == []


@pytest.mark.parametrize("key", ["²-1", "1-²", f"{2**64}-0", f"{10**30}-1", "1-", "-1", "1-1-1"])
async def test_what_is_no_key_names_no_letter(redis: Redis, keys: Keys, key: str) -> None:
    await bury(redis, keys, 1)
    assert await DeadLetters(redis, keys).get(key) is None


async def test_a_letter_is_found_by_its_key_or_as_the_newest_of_an_id(
    redis: Redis, keys: Keys
) -> None:
    first = await bury(redis, keys, 1, command_id="same")
    second = await bury(redis, keys, 2, command_id="same")
    letters = DeadLetters(redis, keys)
    assert (found := await letters.get(first)) is not None
    assert found.key == first
    assert (found := await letters.get("same")) is not None
    assert found.key == second
    assert await letters.get("nobody") is None


async def test_a_text_that_is_no_utf8_is_kept_byte_by_byte(redis: Redis, keys: Keys) -> None:
    key = await bury(redis, keys, 1, text=b"\xff\x00bad")
    letter = await DeadLetters(redis, keys).get(key)
    assert letter is not None
    assert letter.text == b"\xff\x00bad"
    with pytest.raises(ValueError, match=r"UTF-8"):
        await DeadLetters(redis, keys).replay(letter)


@pytest.mark.parametrize("old", ["old", "o" * 255], ids=["short", "longest"])
async def test_a_replay_is_a_new_command_that_names_the_old_one_and_happens_once(
    redis: Redis, ledger: Ledger, keys: Keys, old: str
) -> None:
    text = orjson.dumps({"type": "get_model", "id": old, "data": {}})
    letters = DeadLetters(redis, keys)
    letter = await letters.get(await bury(redis, keys, 1, text=text, command_id=old))
    assert letter is not None
    edited = {"model_uuid": MODEL_UUID}
    new = await letters.replay(letter, edited)
    assert await letters.replay(letter, edited) == new, "its reply was lost: sent twice"
    await take_in(redis, ledger)
    (told,) = await events(redis, keys.events)
    assert (told["type"], told["subject"]) == ("get_model.accepted", new)
    assert told["causationid"] == old
    assert [each async for each in letters.list()] == []


@pytest.mark.parametrize(
    ("deadline", "kept"),
    [
        ("2020-01-01T00:00:00Z", False),
        ("2020-01-01T00:00:00+14:00", False),
        ("2999-01-01T00:00:00Z", True),
        ("soon", True),
        (7, True),
        (None, True),
    ],
)
async def test_a_replay_keeps_a_deadline_unless_it_has_passed(
    redis: Redis, keys: Keys, deadline: object, *, kept: bool
) -> None:
    """What is no deadline is for the worker to reject, not to be swept under the carpet."""
    whole = {"type": "get_model", "id": "old", "data": {}, "deadline": deadline}
    letters = DeadLetters(redis, keys)
    key = await bury(redis, keys, 1, text=orjson.dumps(whole), command_id="old")
    letter = await letters.get(key)
    assert letter is not None
    await letters.replay(letter)
    ((_, fields),) = await entries_between(redis, keys.commands, "-", "+")
    sent = orjson.loads(fields[COMMAND_FIELD])
    assert ("deadline" in sent) == kept
    assert sent.get("deadline", deadline) == deadline


def command(command_id: str) -> bytes:
    data = {"model_uuid": MODEL_UUID}
    return orjson.dumps({"type": "get_model", "id": command_id, "data": data})


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


async def test_turns_of_several_workers_are_spaced_by_the_rate(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Measured at the moment a request may go out: never more than the rate in any second."""
    fleet = [
        RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=0)
        for _ in range(3)
    ]
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def work(limits: RedisLimits) -> None:
        for _ in range(50):
            await limits.enter()
            times.append(loop.time())

    await asyncio.gather(*(work(limits) for limits in fleet))
    times.sort()
    fullest = max(
        sum(begin <= at < begin + 1 for at in times[index:]) for index, begin in enumerate(times)
    )
    assert fullest <= 100


async def test_a_turn_that_was_missed_is_not_used_for_it_would_meet_the_next_ones(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=100, concurrent_requests=0)
    limits._turns = [asyncio.get_running_loop().time() - 1]
    await asyncio.wait_for(limits.enter(), 60)
    assert await redis.exists(keys.rate), "another one was taken"


async def test_permits_are_never_more_than_the_limit_and_those_of_the_dead_expire(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=3)
    held = [await limits.enter() for _ in range(3)]
    fourth = asyncio.create_task(limits.enter())
    for _ in range(5):
        await redis.ping()
    assert not fourth.done()
    assert await redis.zcard(keys.inflight) == 3
    await limits.leave(held[0])
    assert await asyncio.wait_for(fourth, 10)
    await redis.zadd(keys.inflight, {held[1]: 1}, xx=True)
    assert await asyncio.wait_for(limits.enter(), 10)


async def test_a_permit_whose_reply_was_lost_is_given_to_who_has_it_and_to_nobody_else(
    redis: Redis, keys: Keys
) -> None:
    take = load_script(redis, "take_permit")
    given = [await take(keys=[keys.inflight], args=[name, 1, 60_000]) for name in "aab"]
    assert given == [1, 1, 0]


async def test_renewing_permits_is_nothing_that_the_command_does_which_took_the_first(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is logged of it for as long as the process lives would carry that command's id."""
    bound = []

    class Listening(Listener):
        def redis_lost(self, *_: object) -> None:
            bound.append(get_contextvars())

    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.3)
    ledger.outage = Outage(telemetry=Listening())
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    with bound_contextvars(command_id="one"):
        await limits.enter()
        await redis.set(keys.inflight, "someone wrote over it")
        async with asyncio.timeout(60):
            while not bound:
                await asyncio.sleep(0.01)
    await limits.aclose()
    assert bound == [{}]


async def test_permits_are_renewed_while_their_requests_are_under_way(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request may take minutes; what was given back is not taken again."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.9)
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=3)
    held, left, leaving = [await limits.enter() for _ in range(3)]
    await limits.leave(left)
    # As one whose return reaches Redis a moment before the renewal that was under way.
    await redis.zrem(keys.inflight, leaving)
    taken = await redis.zscore(keys.inflight, held)
    async with asyncio.timeout(30):
        while (await redis.zscore(keys.inflight, held) or taken) == taken:
            await asyncio.sleep(0.05)
    assert await redis.zrange(keys.inflight, 0, -1) == [held.encode()]
    await limits.aclose()


async def test_a_renewal_that_finds_nothing_to_renew_any_more_is_no_loss_of_redis(
    redis: Redis, ledger: Ledger, keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last permit may be given back while Redis tells its time."""
    monkeypatch.setattr("worker.queue.ledger.rate_limits.PERMIT_SECONDS", 0.3)
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=2)
    held = await limits.enter()
    asked = asyncio.Event()
    tell_time = redis.time

    async def time() -> Any:
        told = await tell_time()
        await limits.leave(held)
        asked.set()
        return told

    monkeypatch.setattr(redis, "time", time)
    with structlog.testing.capture_logs() as logs:
        await asyncio.wait_for(asked.wait(), 30)
        await asyncio.sleep(0)
        await limits.aclose()
    assert logs == []


async def test_permits_of_a_worker_that_was_killed_are_free_within_half_a_minute(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """It may have held all that there are."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    held = await limits.enter()
    await limits.aclose()
    now = 1000 * int((await redis.time())[0])
    assert (await redis.zscore(keys.inflight, held) or 0) - now <= 31_000


async def test_however_many_of_a_process_wait_for_a_permit_one_asks_for_all(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    """Hundreds that ask fifty times a second leave no time for what they wait for."""
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=1)
    held = await limits.enter()
    waiting = [asyncio.create_task(limits.enter()) for _ in range(200)]
    # Each has asked once at most by the time at which the next asks a second time.
    before = await _scripts_run(redis)
    while await _scripts_run(redis) < before + 200 + 20:
        await asyncio.sleep(0.01)
    begun, loop = await _scripts_run(redis), asyncio.get_running_loop()
    until = loop.time() + 40 * PERMIT_PAUSE_SECONDS
    while loop.time() < until:
        await asyncio.sleep(PERMIT_PAUSE_SECONDS)
    assert await _scripts_run(redis) - begun <= 2 * 40
    for _ in range(200):
        await limits.leave(held)
        done, _ = await asyncio.wait(waiting, timeout=10, return_when=asyncio.FIRST_COMPLETED)
        assert len(done) == 1
        held = done.pop().result()
        waiting = [task for task in waiting if not task.done()]
    assert not waiting


async def test_a_permit_that_was_given_to_one_who_gave_up_is_given_back(
    redis: Redis, ledger: Ledger, keys: Keys
) -> None:
    limits = RedisLimits(redis, keys, ledger, requests_per_second=0, concurrent_requests=4)
    await limits.leave(await limits.enter())
    for turns in range(20):
        task = asyncio.create_task(limits.enter())
        # At one of them its call is sent, and not answered yet.
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled():
            await limits.leave(task.result())
    assert await asyncio.wait_for(limits.enter(), 10)
    assert await redis.zcard(keys.inflight) == 1


async def _scripts_run(redis: Redis) -> int:
    told: dict[str, Any] = await redis.info("commandstats")
    return int(told["cmdstat_evalsha"]["calls"])


@pytest.mark.parametrize(("rate", "concurrent"), [(0, 1), (0.01, 0)])
async def test_who_waits_for_the_limits_ends_though_a_call_swallowed_the_cancellation(
    redis: Redis, ledger: Ledger, keys: Keys, *, rate: float, concurrent: int
) -> None:
    """A command would wait for its turn long past its deadline."""
    limits = RedisLimits(
        redis, keys, ledger, requests_per_second=rate, concurrent_requests=concurrent
    )
    await limits.enter()
    asleep = asyncio.Event()

    async def enter() -> None:
        try:
            asleep.set()
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        await limits.enter()

    task = asyncio.create_task(enter())
    await asleep.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    ended = task.cancelled()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert ended


ODD_FIELDS: dict[str, dict[str, Any]] = {
    "no state": {"s": None},
    "no type": {"t": None},
    "no lane": {"l": None},
    "a number that is none": {"a": "many"},
    "errors that are no JSON": {"x": "{"},
    "errors that are no list": {"x": "{}"},
    "an error that is none": {"x": "[1]"},
    "progress that is no object": {"p": "[]"},
    "an error without its message": {"x": '[{"code": "not_found"}]'},
    "a time past all calendars": {"m": "9" * 40},
    "a time before all calendars": {"m": "-" + "9" * 40},
    "no UTF-8": {"s": b"\xff", "t": b"\xff"},
    "a due time without an end": {},
    "another type": {},
}


@pytest.mark.parametrize("odd", ODD_FIELDS)
async def test_one_odd_row_hides_no_other(
    redis: Redis, ledger: Ledger, keys: Keys, odd: str
) -> None:
    await open_group(redis, keys)
    await accept_one(redis, ledger, "odd")
    await accept_one(redis, ledger, "good")
    for name, value in ODD_FIELDS[odd].items():
        if value is None:
            await redis.hdel(keys.command("odd"), name)
        else:
            await redis.hset(keys.command("odd"), name, value)
    if odd == "another type":
        await redis.set(keys.command("odd"), "no hash")
    if odd == "a due time without an end":
        await redis.zadd(keys.due_interactive, {"odd": math.inf})
    inspector = LedgerReader(redis, keys)
    found = {row.id: row.state for row in await inspector.newest(10)}
    assert found.keys() == {"odd", "good"}
    assert found["good"] == RowState.ACCEPTED
    row = await inspector.status("odd")
    assert row is not None
    assert (row.state == UNREADABLE) == (odd in {"no state", "another type"})
    for at_ms in (row.accepted_at_ms, row.due_at_ms or 0):
        assert show_timestamp(at_ms)
    assert row.last_error is None or describe_error(row.last_error)
