"""Rules of commands that are claimed as they are accepted: each runs once, in a slot of its own."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from schemas.enums import Priority
from tests.integration.creations import data_of, made
from tests.integration.intake_acts import good, intake_of, running, settled, until
from tests.integration.ledger_acts import new_command, open_group, read_entry
from tests.integration.worker_bench import Bench, open_bench, settling
from worker.queue.ledger.keys import COMMAND_FIELD, CommandStream
from worker.queue.ledger.lanes import FailureRateMonitor, Lanes
from worker.queue.ledger.ledger import Ledger
from worker.queue.pool.slots import MOST_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.sandbox_process import SandboxProcess
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.models import Accepted, NewCommand
    from worker.queue.pool.worker_pool import WorkerPool

LIST = {"type": "list_models", "data": {}}


class LosingReplies(Ledger):
    """A ledger on a connection that breaks before replies to an accept come: of two, the first."""

    calls = 0
    lost_in_a_row = 1

    async def accept_and_claim(self, *args: Any, **options: Any) -> Accepted:
        told = await super().accept_and_claim(*args, **options)
        self.calls += 1
        if self.calls % (self.lost_in_a_row + 1):
            raise RedisConnectionError("the reply is lost")
        return told


class LosingBulk(Ledger):
    """A ledger that loses the reply to the first accept of each stream.

    That for bulk becomes a string meanwhile.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.lost: list[CommandStream] = []

    async def accept_and_claim(
        self,
        batch: Sequence[NewCommand],
        stream: CommandStream = CommandStream.COMMON,
        **options: Any,
    ) -> Accepted:
        told = await super().accept_and_claim(batch, stream, **options)
        if stream in self.lost:
            return told
        self.lost.append(stream)
        if stream is CommandStream.BULK:
            await self.redis.set(self.keys.stream(stream), "someone's")
        raise RedisConnectionError("the reply is lost")


class CrossingReplies(Ledger):
    """A ledger whose reply to the first accept comes after that to the second, where there is one.

    Both are made before Redis has carried out either.
    """

    calls = 0

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.begun, self.first_is_done, self.answered = (asyncio.Event() for _ in range(3))

    async def accept_and_claim(self, *args: Any, **options: Any) -> Accepted:
        self.calls += 1
        if self.calls > 1:
            self.begun.set()
            await self.first_is_done.wait()
            told = await super().accept_and_claim(*args, **options)
            self.answered.set()
            return told
        await _soon(self.begun)
        told = await super().accept_and_claim(*args, **options)
        self.first_is_done.set()
        await _soon(self.answered)
        return told


@pytest.fixture
async def bench(
    redis: Redis, ledger: Ledger, sandbox: SandboxProcess, tmp_path: Path
) -> AsyncIterator[Bench]:
    sandbox.faults()
    async with open_bench(redis, ledger, sandbox, tmp_path) as opened:
        yield opened


async def idle(pool: WorkerPool) -> bool:
    return not pool.running and not pool.unsettled


async def is_known(bench: Bench, command_id: str) -> bool:
    return bool(await bench.redis.exists(bench.ledger.keys.command(command_id)))


async def has_succeeded(bench: Bench, command_id: str) -> bool:
    return await bench.redis.hget(bench.ledger.keys.command(command_id), "s") == b"succeeded"


async def told_of(bench: Bench, state: str) -> list[str]:
    keys = bench.ledger.keys
    found = await bench.redis.xrange(keys.events)
    return [str(fields) for _, fields in found or [] if f".{state}" in str(fields)]


async def test_a_command_runs_without_a_drain_or_a_claim(bench: Bench, ledger: Ledger) -> None:
    pool = bench.pool(concurrency=4)
    intake = intake_of(bench.redis, ledger, on_accepted=_nobody_is_told)
    intake.claim_for(pool)
    async with running(intake.read, *settling(pool)):
        await bench.redis.xadd(ledger.keys.commands, {COMMAND_FIELD: good(id="a", **LIST)})

        async def succeeded() -> bool:
            return len(await told_of(bench, "succeeded")) == 1

        await until(succeeded)
    assert not pool.draining
    assert await bench.states("a") == ["accepted", "succeeded"]


async def test_a_lost_reply_leaves_nothing_leased_and_runs_nothing_twice(
    bench: Bench, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Each call is made again by the same consumer, which has the leases then."""
    losing = LosingReplies(
        redis, keys, lease_seconds=600, retention_seconds=3600, reply_retention_seconds=3600
    )
    pool = bench.pool(concurrency=64)
    notified: list[int] = []
    intake = intake_of(redis, losing, on_accepted=notified.append)
    intake.claim_for(pool)
    async with running(intake.read, *settling(pool)):
        for number in range(12):
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id=f"id-{number}", **LIST)})
            await until(lambda: settled(redis, keys))

        async def ended() -> bool:
            # What was accepted while others were due was not claimed; nobody drains here.
            waiting = await ledger.count_due()
            return len(await told_of(bench, "succeeded")) + sum(waiting) == 12

        await until(ended)
        await until(lambda: idle(pool))
    assert losing.calls > 12
    waiting = sum(await ledger.count_due())
    assert waiting == sum(notified), "whoever waits is told of"
    assert waiting < 12, "some were claimed at once"
    ends = await told_of(bench, "succeeded")
    assert len(ends) == len(set(ends)) == 12 - waiting
    assert pool.slots.free == 64


async def test_a_call_is_made_until_its_reply_comes_however_often_that_is_lost(
    bench: Bench, redis: Redis, keys: Keys
) -> None:
    losing = LosingReplies(
        redis, keys, lease_seconds=600, retention_seconds=3600, reply_retention_seconds=3600
    )
    losing.lost_in_a_row = 2
    pool = bench.pool(concurrency=4)
    intake = intake_of(redis, losing)
    intake.claim_for(pool)
    async with running(intake.read, *settling(pool)):
        await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="a", **LIST)})
        await until(lambda: has_succeeded(bench, "a"))
    assert losing.calls == 3


async def test_a_lost_reply_of_a_stream_in_trouble_keeps_no_other_from_being_read(
    bench: Bench, redis: Redis, keys: Keys
) -> None:
    losing = LosingBulk(
        redis, keys, lease_seconds=600, retention_seconds=3600, reply_retention_seconds=3600
    )
    pool = bench.pool(concurrency=4)
    intake = intake_of(redis, losing)
    intake.claim_for(pool)
    async with running(intake.read, *settling(pool)):
        bulk = keys.stream(CommandStream.BULK)
        urgent = good(id="urgent", priority="interactive", **LIST)
        await redis.xadd(bulk, {COMMAND_FIELD: urgent})
        await until(lambda: is_known(bench, "urgent"))
        await redis.xadd(keys.commands, {COMMAND_FIELD: good(id="common", **LIST)})
        async with asyncio.timeout(30):
            await until(lambda: has_succeeded(bench, "common"))
            assert losing.lost == [CommandStream.BULK, CommandStream.COMMON]
            assert await redis.type(bulk) == b"string"
            await redis.delete(bulk)
            await until(lambda: has_succeeded(bench, "urgent"))


@pytest.mark.parametrize("is_late", [False, True], ids=["lost", "late"])
async def test_what_runs_already_is_not_begun_again_by_a_lease_that_comes_again(
    bench: Bench, is_late: bool
) -> None:
    """A consumer can't know whether its reply was lost or only late."""
    bench.sandbox.faults({"operation": "list_models", "effect": "latency", "seconds": 1})
    pool = bench.pool(concurrency=4)
    sent = await bench.send("list_models", {})
    lease = await bench.claim(sent)
    async with running(*settling(pool)):
        if is_late:
            pool.take(0, [], [lease])
            pool.take(0, [lease])
        else:
            pool.take(0, [lease])
            pool.take(0, [], [lease])
        assert pool.running == 1
        await until(lambda: idle(pool))
    assert await bench.states(sent) == ["accepted", "succeeded"]
    assert pool.slots.free == 4


async def test_what_has_ended_is_not_begun_again_by_a_lease_that_is_regained(bench: Bench) -> None:
    """Also where Redis knows nothing of its end yet."""
    pool = bench.pool(concurrency=4)
    sent = await bench.send("list_models", {})
    lease = await bench.claim(sent)
    pool.take(0, [lease])

    async def has_ended() -> bool:
        return not pool.running

    await until(has_ended)
    assert pool.unsettled == 1
    pool.take(0, [], [lease])
    assert pool.running == 0
    async with running(*settling(pool)):
        await until(lambda: idle(pool))
    assert await bench.states(sent) == ["accepted", "succeeded"]


async def test_what_is_taken_over_and_read_again_at_the_same_time_is_created_once(
    bench: Bench, redis: Redis, keys: Keys
) -> None:
    """Both calls get its lease, and the one that was carried out later may be answered first."""
    ledger = CrossingReplies(
        redis, keys, lease_seconds=600, retention_seconds=3600, reply_retention_seconds=3600
    )
    data = data_of(bench, "create_model")
    await open_group(redis, keys)
    await read_entry(redis, keys, good(id="a", type="create_model", data=data))
    pool = bench.pool(concurrency=4)
    intake = intake_of(redis, ledger, consumer="another")
    intake.claim_for(pool)
    intake.take_all_over()

    async def is_under_way() -> bool:
        return ledger.calls == 1

    async with running(intake.take_over, *settling(pool)):
        await until(is_under_way)
        async with running(intake.read):
            await until(lambda: settled(redis, keys))
            await until(lambda: is_told(bench, "a", "succeeded"))
            await until(lambda: idle(pool))
    assert await bench.states("a") == ["accepted", "succeeded"]
    assert made(bench, "create_model", data) == 1
    assert pool.slots.free == 4


async def test_slots_are_kept_while_an_accept_is_under_way(bench: Bench) -> None:
    """And no more than leave the bulk lane and other workers their share."""
    pool = bench.pool(concurrency=64)
    batch = [new_command(b"1-0", f"id-{number}") for number in range(100)]
    reserved = pool.reserve(batch)
    assert reserved == MOST_AT_ONCE
    assert pool.slots.free == 64 - MOST_AT_ONCE
    again = pool.reserve(batch)
    assert again == 64 - MOST_AT_ONCE - 4, "a sixteenth is the bulk lane's own"
    pool.take(reserved, [])
    pool.take(again, [])
    assert pool.slots.free == 64
    pool.stop()
    assert pool.reserve(batch) == 0


async def test_a_backlog_of_bulk_holds_up_no_interactive_command(bench: Bench) -> None:
    """Nobody drains here: it is claimed as it is accepted, beside a bulk command that is due."""
    pool = bench.pool(concurrency=4)
    intake = intake_of(bench.redis, bench.ledger)
    intake.claim_for(pool)
    bulk = await bench.send("list_models", {}, priority=Priority.BULK)
    async with running(intake.read, *settling(pool)):
        await bench.redis.xadd(bench.ledger.keys.commands, {COMMAND_FIELD: good(id="a", **LIST)})

        async def succeeded() -> bool:
            return await bench.states("a") == ["accepted", "succeeded"]

        await until(succeeded)
    assert await bench.state(bulk) == "accepted"


async def test_in_a_single_slot_a_bulk_command_that_is_due_has_its_turn(bench: Bench) -> None:
    pool = bench.pool(concurrency=1)
    intake = intake_of(bench.redis, bench.ledger)
    intake.claim_for(pool)
    bulk = await bench.send("list_models", {}, priority=Priority.BULK)
    async with running(intake.read, *settling(pool)):
        await bench.redis.xadd(bench.ledger.keys.commands, {COMMAND_FIELD: good(id="a", **LIST)})
        await until(lambda: is_known(bench, "a"))
    assert await bench.state("a") == await bench.state(bulk) == "accepted"


async def test_nothing_is_kept_for_what_waits_for_its_turn_anyway(bench: Bench) -> None:
    """A batch of the bulk stream would keep slots from others for nothing."""
    pool = bench.pool(concurrency=64)
    waiting = [
        new_command(b"1-0", "bulk", lane=Priority.BULK),
        new_command(b"1-1", "later", not_before_ms=1),
    ]
    assert pool.reserve(waiting) == 0
    assert pool.reserve([*waiting, new_command(b"1-2", "now")]) == 1


async def test_texts_that_leave_no_room_are_not_reserved_for(bench: Bench) -> None:
    pool = bench.pool(concurrency=64, text_bytes=250)
    batch = [new_command(b"1-0", f"id-{number}", text=b"x" * 100) for number in range(3)]
    assert pool.reserve(batch) == 2


async def test_commands_claimed_at_once_tell_that_their_lane_is_paused_no_more(
    bench: Bench, redis: Redis, keys: Keys, ledger: Ledger
) -> None:
    """Nothing is due, so no claim would tell it; it is resumed once, and can be paused again."""
    lanes = Lanes(redis, keys)
    await lanes.pause(Priority.INTERACTIVE, "tests", 0.01)
    share = FailureRateMonitor(commands=3, seconds=0, share=0.9)
    pool = bench.pool(concurrency=4, share=share)
    await bench.send("list_models", {}, id="probe")
    intake = intake_of(redis, ledger)
    intake.claim_for(pool)
    bad = {"type": "get_model", "data": {"model_uuid": str(uuid4())}}
    async with running(intake.read, *settling(pool)):
        await pool.drain(0.5)
        await until(lambda: idle(pool))
        assert not await lanes.paused(), "the probe has succeeded"
        for number in range(40):
            await redis.xadd(keys.commands, {COMMAND_FIELD: good(id=f"bad-{number}", **bad)})
            await until(lambda: settled(redis, keys))
            await until(lambda: idle(pool))
            if await lanes.paused():
                break
        else:
            raise AssertionError("all of 40 commands have failed, and the lane goes on")


async def is_told(bench: Bench, command_id: str, state: str) -> bool:
    return state in await bench.states(command_id)


async def _soon(event: asyncio.Event) -> None:
    """Waits for what may never come."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), 0.3)


def _nobody_is_told(count: int) -> None:
    raise AssertionError(f"{count} wait for a drain")
