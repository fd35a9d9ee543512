"""Rules of the settler: what it is given is recorded, however late; no lane waits for the other."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import ResponseError

from schemas.enums import Priority
from tests.integration.intake_acts import until
from tests.integration.ledger_acts import accept_one, lease_one
from tests.integration.settlers import settler_of
from tests.integration.worker_bench import end_tasks
from worker.queue.ledger.models import RowState, RunResult
from worker.queue.pool.lane_pauses import LanePauses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.queue.ledger.ledger import Ledger

PATIENCE_SECONDS = 60
ENDS = 3


async def test_an_end_of_the_last_moment_is_recorded_before_a_stop_goes_on(
    redis: Redis, ledger: Ledger
) -> None:
    """It comes when all that came before has long been recorded; unrecorded, it would run again."""
    lease = await lease_one(redis, ledger)
    settler = settler_of(ledger)
    settling = asyncio.create_task(settler.run(lease.lane))
    # Nothing is added to the other one.
    other = asyncio.create_task(settler.run(Priority.BULK))
    await settler.flush(PATIENCE_SECONDS)
    settler.add(RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}"))
    await settler.flush(PATIENCE_SECONDS)
    assert settler.waiting == []
    assert await redis.hget(ledger.keys.command("one"), "s") == b"succeeded"
    await end_tasks([settling, other])


@pytest.mark.parametrize("first", list(Priority))
async def test_the_ends_of_one_lane_wait_for_none_of_the_other(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch, first: Priority
) -> None:
    """A script that records hundreds of bulk ends keeps no interactive one from its event."""
    (other,) = set(Priority) - {first}
    stuck = await lease_one(redis, ledger, "stuck", lane=first)
    await accept_one(redis, ledger, "free", lane=other)
    (free,) = (await ledger.claim(10, bulk_most=10)).leases
    finish, over = ledger.finish, asyncio.Event()

    async def finish_slowly(ends: Sequence[RunResult]) -> list[bool]:
        if ends[0].lease.row_id == "stuck":
            await over.wait()
        return await finish(ends)

    monkeypatch.setattr(ledger, "finish", finish_slowly)
    settler = settler_of(ledger)
    settling = [asyncio.create_task(settler.run(lane)) for lane in Priority]
    settler.add(RunResult(stuck, RowState.SUCCEEDED, 1, event=b"{}"))
    settler.add(RunResult(free, RowState.SUCCEEDED, 1, event=b"{}"))

    async def waits_alone() -> bool:
        return [end.lease.row_id for end in settler.waiting] == ["stuck"]

    await until(waits_alone)
    assert await redis.hget(ledger.keys.command("free"), "s") == b"succeeded"
    over.set()
    await settler.flush(PATIENCE_SECONDS)
    assert settler.waiting == []
    await end_tasks(settling)


async def test_a_lane_that_redis_refuses_is_told_once_though_the_other_gets_through(
    redis: Redis,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each end of the other would say that Redis is back, and each try that it is lost again."""
    refused = await lease_one(redis, ledger, "refused", lane=Priority.BULK)
    for number in range(ENDS):
        await accept_one(redis, ledger, f"good-{number}")
    good = (await ledger.claim(ENDS)).leases
    finish, tries = ledger.finish, 0

    async def finish_others(ends: Sequence[RunResult]) -> list[bool]:
        nonlocal tries
        if ends[0].lease.row_id == "refused" and tries < len(good):
            tries += 1
            raise ResponseError("WRONGTYPE")
        return await finish(ends)

    monkeypatch.setattr(ledger, "finish", finish_others)
    settler = settler_of(ledger)
    settling = [asyncio.create_task(settler.run(lane)) for lane in Priority]
    settler.add(RunResult(refused, RowState.SUCCEEDED, 1, event=b"{}"))
    for number, lease in enumerate(good):

        async def tried_again(times: int = number + 1) -> bool:
            return tries >= times

        await until(tried_again)
        settler.add(RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}"))

    async def all_recorded() -> bool:
        return not settler.waiting

    await until(all_recorded)
    told = capsys.readouterr().out
    assert (told.count("redis.lost"), told.count("redis.back")) == (1, 1)
    await end_tasks(settling)


async def test_a_lane_whose_ends_cannot_be_recorded_takes_none_of_the_other_with_it(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect ends a worker in good order: what it has done is recorded before that."""
    broken = await lease_one(redis, ledger, "broken", lane=Priority.BULK)
    await accept_one(redis, ledger, "good")
    (good,) = (await ledger.claim(10)).leases
    finish = ledger.finish

    async def finish_good(ends: Sequence[RunResult]) -> list[bool]:
        if ends[0].lease.row_id == "broken":
            raise TypeError
        return await finish(ends)

    monkeypatch.setattr(ledger, "finish", finish_good)
    settler = settler_of(ledger)
    settling = {lane: asyncio.create_task(settler.run(lane)) for lane in Priority}
    settler.add(RunResult(broken, RowState.SUCCEEDED, 1, event=b"{}"))
    with pytest.raises(AssertionError):
        await settling[Priority.BULK]
    settler.add(RunResult(good, RowState.SUCCEEDED, 1, event=b"{}"))

    async def recorded() -> bool:
        return await redis.hget(ledger.keys.command("good"), "s") == b"succeeded"

    await until(recorded)
    await end_tasks(settling.values())


async def test_a_stop_that_is_swallowed_once_ends_the_recording_the_next_time(
    redis: Redis, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancellation that meets a timeout of a socket comes out of redis-py as the timeout."""
    lease = await lease_one(redis, ledger)
    judging = asyncio.Event()

    async def swallow(*_: object) -> None:
        judging.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    monkeypatch.setattr(LanePauses, "judge", swallow)
    settler = settler_of(ledger)
    settling = [asyncio.create_task(settler.run(lane)) for lane in Priority]
    settler.add(RunResult(lease, RowState.SUCCEEDED, 1, event=b"{}"))
    await judging.wait()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await end_tasks(settling)
