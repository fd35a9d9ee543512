"""Backfills on a real Redis: the cursor, the lead, the ends of items, the parts, at every seam."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import orjson
import pytest
import structlog

from schemas.enums import PartFormat, SourceFormat
from schemas.events import ErrorCode
from tests.integration.backfilling import (
    ITEMS,
    LEASE_MS,
    NAME,
    Backfilling,
    begin,
    command,
    make_plan,
    run_to_the_end,
    store_of,
)
from tests.integration.ledger_acts import events, lease_one
from tests.web_server import serving
from worker.backfill.errors import LeadLostError, NewerPlanError
from worker.backfill.keys import backfill_key
from worker.backfill.leader import SOURCE_TRIES, AlreadyLed, Leader
from worker.backfill.plan import FailureLimits, Plan, SourcePlan
from worker.backfill.results.output import Output
from worker.backfill.results.parts import Collector
from worker.backfill.sources.reader import Batch, Reader
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.backfill.store import NOBODY, BackfillStore, FeedItem, Transition
from worker.backfill.transitions import cancel_backfill, pause, resume
from worker.errors import FencedError
from worker.queue.ledger.cancellation import CancelStatus, cancel
from worker.queue.ledger.keys import member_row_id
from worker.queue.ledger.models import Lease, RowState, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill of thirty items, with a small window and small parts."""
    return await begin(redis, keys, ledger, tmp_path)


@pytest.fixture
def night_plan(tmp_path: Path) -> Plan:
    """What the backfill of a test is to do."""
    return make_plan(tmp_path)


async def left_of_items(run: Backfilling) -> list[bytes]:
    """Returns keys of items and their results, of which an end leaves none."""
    found = [key async for key in run.redis.scan_iter(match=f"*{run.keys.namespace}*")]
    return [key for key in found if b"command:" in key or b"text:" in key or b"-results:" in key]


async def test_a_backfill_is_begun_once_and_keeps_its_plan(night: Backfilling) -> None:
    other = Plan(common={}, source=night.plan.source, output="elsewhere")
    assert await night.store.open(NAME, other, Origin.QUEUE, "bf-2") == night.plan
    assert await night.store.ids() == [NAME]


async def test_a_plan_of_a_newer_version_is_led_by_nobody_who_would_misread_it(
    night: Backfilling,
) -> None:
    """And the lead is free at once for whoever can; what has ended is told all the same."""
    key = backfill_key(night.keys, NAME)
    plan = orjson.loads(await night.redis.hget(key, "plan") or b"")
    await night.redis.hset(key, "plan", orjson.dumps(plan | {"most_hours": 3}))
    leader = Leader(night.store, NAME, announces=False)
    with pytest.raises(NewerPlanError, match=r"can't read \(most_hours\); only a newer one"):
        await leader.work()
    status = await night.standing()
    assert (status.led_ms, status.read, status.state) == (0, 0, BackfillState.RUNNING)
    turn = Transition({BackfillState.RUNNING}, BackfillState.SUCCEEDED, result=b"{}")
    await night.store.transition(NAME, turn)
    ended = await Leader(night.store, NAME, announces=False).work()
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.SUCCEEDED


async def test_a_result_that_is_amended_keeps_all_of_its_backfill_as_long(
    night: Backfilling,
) -> None:
    """Of its two hashes one alone would tell nothing, and stand in the way of a new one."""
    turn = Transition({BackfillState.RUNNING}, BackfillState.SUCCEEDED, result=b"{}")
    await night.store.transition(NAME, turn)
    both = backfill_key(night.keys, NAME), night.keys.group(NAME)
    for key in both:
        await night.redis.expire(key, 60)
    await night.store.amend_result(NAME, b"[]")
    assert {await night.redis.ttl(key) > 60 for key in both} == {True}


async def test_an_item_is_cancelled_by_no_name_that_it_has(night: Backfilling) -> None:
    """Its backfill counts its open items: it would wait for that one for ever."""
    await night.feed(1)
    for name in (member_row_id(NAME, 0), f"{NAME}/0"):
        outcome = await cancel(
            night.redis, night.keys, name, retention_seconds=60, reply_retention_seconds=60
        )
        assert outcome.status is CancelStatus.MEMBER_OF_GROUP
    assert len(await night.claim()) == (await night.standing()).open == 1


@pytest.mark.parametrize("is_command", [True, False])
@pytest.mark.parametrize("lost", [0, 1])
async def test_of_a_backfill_that_lost_one_of_its_hashes_the_other_is_in_nobodys_way(
    night: Backfilling, lost: int, is_command: bool
) -> None:
    """Someone deleted one, or Redis evicted it."""
    both = backfill_key(night.keys, NAME), night.keys.group(NAME)
    turn = Transition({BackfillState.RUNNING}, BackfillState.SUCCEEDED, "why", result=b"{}")
    await night.store.transition(NAME, turn)
    await night.redis.hset(both[0], mapping={"read": 9, "passed:folder": 2})
    await night.redis.hset(both[1], mapping={"failed": 9, "failed:not_found": 9, "orphaned": 1})
    await night.redis.delete(both[lost])
    if is_command:
        lease = await lease_one(night.redis, night.ledger, NAME)
        assert await night.store.open_for(lease, night.plan) == night.plan
    else:
        assert await night.store.open(NAME, night.plan, Origin.CONSOLE, "bf-2") == night.plan
    now = await night.standing()
    assert (now.state, now.read, now.failed, now.failures) == (BackfillState.RUNNING, 0, 0, {})
    assert (now.reason, now.passed_over, now.result, now.silent) == ("", {}, None, False)
    assert {await night.redis.ttl(key) for key in both} == {-1}


async def test_the_same_items_are_never_fed_twice(night: Backfilling) -> None:
    """A reader whose reply was lost, or that stood still for long, finds the cursor moved."""
    token, before = await night.lead()
    items = [FeedItem(orjson.dumps(command(0)))]
    assert await night.store.feed(before, token, items, "1", exhausted=False)
    assert not await night.store.feed(before, token, items, "1", exhausted=False)
    now = await night.standing()
    assert (now.read, now.open, now.position) == (1, 1, "1")


async def test_only_one_leads_and_who_has_lost_the_lead_changes_nothing(
    night: Backfilling,
) -> None:
    token, standing = await night.lead()
    refused, _ = await night.store.lead(NAME, NOBODY, lease_ms=LEASE_MS)
    assert refused == NOBODY
    assert isinstance(await Leader(night.store, NAME, announces=False).work(), AlreadyLed)

    await night.let_lease_end()
    newer, _ = await night.lead()
    assert newer > token
    assert not await night.store.feed(
        standing, token, [FeedItem(orjson.dumps(command(0)))], "1", exhausted=False
    )
    with pytest.raises(LeadLostError):
        await night.store.begin_part(NAME, token, "0-1 0-2 2")
    kept, _ = await night.store.lead(NAME, token, lease_ms=LEASE_MS)
    assert kept == NOBODY


async def test_who_reads_for_long_keeps_the_lead_meanwhile(
    night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source may take minutes to come; with the lease over, another would read it too."""
    monkeypatch.setattr("worker.backfill.leader.LEASE_SECONDS", 1.0)
    read, may_end = Reader.read, asyncio.Event()

    async def last_long(reader: Reader, *place: Any, **options: Any) -> Batch:
        await may_end.wait()
        return await read(reader, *place, **options)

    monkeypatch.setattr(Reader, "read", last_long)
    leases: set[Any] = set()
    leading = asyncio.create_task(Leader(night.store, NAME, announces=True).work())
    try:
        async with asyncio.timeout(60):
            while len(leases) < 5:
                leases.add(await night.redis.hget(backfill_key(night.keys, NAME), "leader_until"))
                await asyncio.sleep(0.02)
    finally:
        may_end.set()
        async with night.working():
            ended = await leading
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.SUCCEEDED
    assert night.items() == list(range(ITEMS))


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """A source that comes to no end behind its first items; returns how often it was asked."""
    read, asked = Reader.read, 0

    async def silenced(reader: Reader, number: int, *rest: Any, **options: Any) -> Batch:
        nonlocal asked
        if number:
            asked += 1
            await asyncio.Event().wait()
        return await read(reader, number, *rest, **options)

    monkeypatch.setattr("worker.backfill.leader.LEASE_SECONDS", 1.0)
    monkeypatch.setattr(Reader, "read", silenced)
    return lambda: asked


async def until_asked(silent: Callable[[], int], leading: asyncio.Task[Any]) -> None:
    async with asyncio.timeout(60):
        while not silent() and not leading.done():
            await asyncio.sleep(0.02)


async def test_a_backfill_whose_source_never_comes_to_an_end_is_cancelled_all_the_same(
    night: Backfilling, silent: Callable[[], int]
) -> None:
    async with night.working():
        leading = asyncio.create_task(Leader(night.store, NAME, announces=True).work())
        await until_asked(silent, leading)
        await cancel_backfill(night.store, NAME)
        ended = await asyncio.wait_for(leading, 60)
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.CANCELLED
    assert night.items(), "what has ended is in a part"


async def test_a_backfill_whose_source_never_comes_to_an_end_can_be_paused_and_resumed(
    night: Backfilling, silent: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Reader.read
    async with night.working():
        leading = asyncio.create_task(Leader(night.store, NAME, announces=True).work())
        await until_asked(silent, leading)
        await pause(night.store, NAME)
        paused = await asyncio.wait_for(leading, 60)
    assert isinstance(paused, BackfillStatus)
    assert paused.state is BackfillState.PAUSED

    monkeypatch.undo()
    assert Reader.read is not read, "it answers again"
    await resume(night.store, NAME)
    await run_to_the_end(night)
    assert night.items() == list(range(ITEMS))


async def test_no_read_lasts_beyond_the_time_that_its_command_has(
    night: Backfilling, silent: Callable[[], int]
) -> None:
    """A slice has no such end: a large source takes longer to come."""
    async with night.working():
        leader = Leader(night.store, NAME, announces=False)
        leading = asyncio.create_task(leader.work(0.5, read_seconds=8.0))
        await until_asked(silent, leading)
        await asyncio.sleep(1.0)
        assert not leading.done()
        status = await asyncio.wait_for(leading, 60)
    assert isinstance(status, BackfillStatus)
    assert (status.state, silent()) == (BackfillState.RUNNING, 1)
    assert (await night.standing()).led_ms == 0, "the lead is free"


async def test_an_item_ends_once_and_its_row_is_gone_with_it(night: Backfilling) -> None:
    await night.feed(1)
    (lease,) = await night.claim()
    assert (lease.command_id, lease.group) == (f"{NAME}/0", NAME)
    assert await night.settle(lease)
    assert not await night.settle(lease), "fenced, for there is no row"
    now = await night.standing()
    assert (now.succeeded, now.open, now.waiting) == (1, 0, 1)
    assert not await night.redis.exists(night.keys.command(lease.row_id))
    assert not await night.redis.exists(night.keys.text(lease.row_id))
    assert await events(night.redis, night.keys.events) == []
    assert await night.redis.xlen(night.keys.dead_letters) == 0


async def test_items_of_a_paused_backfill_wait_until_it_is_resumed(night: Backfilling) -> None:
    await night.feed(4)
    (running,) = await night.claim(1)
    paused = await pause(night.store, NAME)
    assert paused is not None
    assert paused.state is BackfillState.PAUSED
    assert await night.claim() == []
    assert await night.settle(running), "what runs may end"
    assert await night.redis.zcard(night.keys.due_bulk) == 0
    for _ in range(2):
        resumed = await resume(night.store, NAME)
        assert resumed is not None
        assert resumed.state is BackfillState.RUNNING
    assert len(await night.claim()) == 3


async def test_what_runs_through_a_pause_is_not_begun_again_by_the_resume(
    night: Backfilling,
) -> None:
    await night.feed(3)
    (running,) = await night.claim(1)
    await pause(night.store, NAME)
    await resume(night.store, NAME)
    others = await night.claim()
    assert sorted(each.member for each in (running, *others)) == [0, 1, 2]
    assert await night.settle(running), "it is still its own"


async def test_what_had_ended_when_it_was_paused_is_in_a_part_at_once(
    night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pauses it looks at the results; less than a part waits for no more of them."""
    monkeypatch.setattr("worker.backfill.leader.FLUSH_SECONDS", 3600.0)
    await night.feed(5)
    for lease in await night.claim(2):
        await night.settle(lease)
    await night.let_lease_end()
    await pause(night.store, NAME)
    # It has nothing more to do; one that waits for more does so until the time is up.
    paused = await Leader(night.store, NAME, announces=True).work(seconds=60)
    assert isinstance(paused, BackfillStatus)
    assert (paused.state, paused.open, paused.waiting) == (BackfillState.PAUSED, 3, 0)
    assert night.items() == [0, 1]


async def test_a_part_that_is_not_full_is_written_after_a_time_though_the_items_go_on(
    night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the results of a slow backfill would lie in Redis for hours."""
    monkeypatch.setattr("worker.backfill.leader.FLUSH_SECONDS", 1.0)
    await night.feed(5)
    for lease in await night.claim(2):
        await night.settle(lease)
    await night.let_lease_end()
    task = asyncio.create_task(Leader(night.store, NAME, announces=True).work(seconds=60))
    while not task.done() and not night.items():
        await asyncio.sleep(0.02)
    found = night.items()
    await pause(night.store, NAME)
    await task
    assert found == [0, 1]


async def test_a_paused_backfill_does_not_hide_what_is_due_behind_it(
    night: Backfilling,
) -> None:
    await night.feed(5)
    await pause(night.store, NAME)
    claim = await night.ledger.claim(2, bulk_most=2)
    assert (claim.leases, claim.skipped) == ([], 2), "so the runner asks again at once"


async def test_a_cancelled_backfill_drops_what_waits_and_keeps_what_ended(
    night: Backfilling,
) -> None:
    await night.feed(5)
    first, second = await night.claim(2)
    await night.settle(first)
    token, _ = await night.store.lead(NAME, NOBODY, lease_ms=LEASE_MS)
    assert token == NOBODY, "the leader of `feed` lives"
    cancelling = await cancel_backfill(night.store, NAME)
    assert cancelling is not None
    assert (cancelling.state, cancelling.open) == (BackfillState.CANCELLING, 1)
    await night.settle(second)
    await night.let_lease_end()
    for _ in range(2):
        ended = await cancel_backfill(night.store, NAME)
        assert ended is not None
        assert (ended.state, ended.dropped) == (BackfillState.CANCELLED, 3)
    assert night.items() == [0, 1]
    assert await left_of_items(night) == []
    (event,) = [
        event
        for event in await events(night.redis, night.keys.events)
        if event["type"] != "backfill.progressed"
    ]
    assert event["type"] == "backfill.cancelled"


async def test_an_item_alone_can_t_be_cancelled(night: Backfilling) -> None:
    """Its backfill would wait for it for ever."""
    await night.feed(1)
    outcome = await cancel(
        night.redis,
        night.keys,
        f"{NAME}/0",
        retention_seconds=60,
        reply_retention_seconds=60,
    )
    assert outcome.status is CancelStatus.MEMBER_OF_GROUP
    assert len(await night.claim()) == 1


async def test_a_run_reads_no_further_than_its_window_and_keeps_each_item_once(
    night: Backfilling,
) -> None:
    open_items: list[int] = []
    leader = Leader(
        night.store, NAME, announces=True, watch=lambda now: open_items.append(now.open)
    )
    async with night.working():
        ended = await leader.work()
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.SUCCEEDED
    assert max(open_items) <= 8
    assert night.items() == list(range(ITEMS))
    assert len(Output(night.plan.output).part_names()) == 5
    assert (await events(night.redis, night.keys.events))[-1]["data"]["result"] == {
        "items": ITEMS,
        "succeeded": ITEMS,
        "failed": 0,
        "failures": {},
        "output": night.plan.output,
        "seconds": ended.result["seconds"] if ended.result else None,
    }
    assert await left_of_items(night) == []


async def test_reading_waits_for_the_parts_where_items_end_faster_than_they_are_written(
    night: Backfilling,
) -> None:
    """Results lie in Redis meanwhile: two parts of seven at most, beside a window of eight."""
    leader, now = Leader(night.store, NAME, announces=True), await night.standing()
    rooms = [
        leader._room(replace(now, open=open_items, waiting=waiting))
        for open_items, waiting in ((0, 0), (3, 0), (0, 14), (0, 15), (5, 15), (0, 22))
    ]
    assert rooms == [8, 5, 8, 7, 2, 0]


class DiedError(Exception):
    """The leader was killed."""


class DyingStore(BackfillStore):
    """Kills its user before or after the n-th act that changes something.

    Args:
        after: whether the act was done, though nobody heard of it.
    """

    def __init__(self, store: BackfillStore, acts: int, *, after: bool) -> None:
        super().__init__(
            store.redis, store.keys, retention_seconds=600, reply_retention_seconds=600
        )
        self.acts = acts
        self.after = after
        self.died = False

    async def _or_die(self, act: Any) -> Any:
        self.acts -= 1
        if self.died or (self.acts < 0 and not self.after):
            self.died = True
            act.close()
            raise DiedError
        done = await act
        if self.acts < 0:
            self.died = True
            raise DiedError
        return done

    async def lead(self, *args: Any, **options: Any) -> Any:
        if self.died:
            raise DiedError
        return await super().lead(*args, **options)

    async def feed(self, *args: Any, **options: Any) -> Any:
        return await self._or_die(super().feed(*args, **options))

    async def begin_part(self, *args: Any) -> Any:
        return await self._or_die(super().begin_part(*args))

    async def commit_part(self, *args: Any) -> Any:
        return await self._or_die(super().commit_part(*args))

    async def transition(self, *args: Any) -> Any:
        return await self._or_die(super().transition(*args))


@pytest.mark.parametrize("after", [False, True])
async def test_a_leader_that_dies_at_any_seam_neither_skips_nor_doubles_an_item(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, *, after: bool
) -> None:
    """One more death than there are acts: the last leader comes through."""
    acts = 0
    while True:
        folder = tmp_path / str(acts)
        folder.mkdir()
        await redis.delete(backfill_key(keys, NAME), keys.group(NAME), keys.events)
        run = await begin(redis, keys, ledger, folder)
        dying = DyingStore(run.store, acts, after=after)
        async with run.working():
            try:
                await Leader(dying, NAME, announces=True).work()
            except DiedError:
                await run.let_lease_end()
                await Leader(run.store, NAME, announces=True).work()
        assert run.items() == list(range(ITEMS)), f"after {acts} acts"
        assert len(run.seen) == len(set(run.seen)) == ITEMS
        ends = [event["type"] for event in await events(redis, keys.events)]
        assert ends.count("backfill.succeeded") == 1
        if not dying.died:
            break
        acts += 1
    assert acts > 10, "feeding, cutting, shelving and ending are all among the seams"


class LostStore(DyingStore):
    """Loses Redis before or after the n-th act that changes something, once."""

    async def _or_die(self, act: Any) -> Any:
        self.acts -= 1
        if self.acts != -1:
            return await act
        self.died = True
        if self.after:
            await act
        else:
            act.close()
        raise ConnectionError("Redis went away")

    async def lead(self, *args: Any, **options: Any) -> Any:
        return await BackfillStore.lead(self, *args, **options)


@pytest.mark.parametrize("after", [False, True])
async def test_a_leader_that_loses_redis_at_any_seam_goes_on_and_reads_nothing_again(
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    after: bool,
) -> None:
    """Standard input can't be read again, so what was read is kept until it is fed."""
    monkeypatch.setattr("worker.queue.ledger.redis_retry.FIRST_PAUSE_SECONDS", 0.01)
    acts, read = 0, Reader.read
    while True:
        folder = tmp_path / str(acts)
        folder.mkdir()
        await redis.delete(backfill_key(keys, NAME), keys.group(NAME), keys.events)
        run = await begin(redis, keys, ledger, folder)
        lost = LostStore(run.store, acts, after=after)
        troubles: list[BaseException] = []
        leader = Leader(lost, NAME, announces=True, trouble=troubles.append)
        begun: list[tuple[int, str]] = []

        async def noted(
            reader: Reader,
            number: int,
            position: str,
            most: int,
            *,
            most_bad: int | None = None,
            begun: list[tuple[int, str]] = begun,
        ) -> Batch:
            begun.append((number, position))
            return await read(reader, number, position, most, most_bad=most_bad)

        with monkeypatch.context() as patched:
            patched.setattr(Reader, "read", noted)
            async with run.working():
                ended = await leader.work()
        assert isinstance(ended, BackfillStatus)
        assert ended.state is BackfillState.SUCCEEDED
        assert run.items() == list(range(ITEMS)), f"after {acts} acts"
        assert len(run.seen) == len(set(run.seen)) == ITEMS
        assert len(begun) == len(set(begun)), "the same place was read twice"
        ends = [event["type"] for event in await events(redis, keys.events)]
        assert ends.count("backfill.succeeded") == 1
        assert len(troubles) == lost.died
        if not lost.died:
            break
        acts += 1
    assert acts > 10, "feeding, cutting, shelving and ending are all among the seams"


class PausingStore(LostStore):
    """Is paused between a read of the source and its feed, for a moment; loses nothing else."""

    async def feed(self, *args: Any, **options: Any) -> Any:
        is_first, self.died = not self.died, True
        if is_first:
            await pause(self, NAME)
        fed = await super().feed(*args, **options)
        if is_first:
            await resume(self, NAME)
        return fed


async def test_what_a_pause_keeps_from_being_fed_is_not_read_again(
    night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of standard input it would be lost."""
    read, begun = Reader.read, []

    async def noted(reader: Reader, number: int, *args: Any, **options: Any) -> Batch:
        begun.append(number)
        return await read(reader, number, *args, **options)

    monkeypatch.setattr(Reader, "read", noted)
    store = PausingStore(night.store, -1, after=False)
    async with night.working():
        await Leader(store, NAME, announces=True).work()
    assert store.died
    assert night.items() == list(range(ITEMS))
    assert len(begun) == len(set(begun)), "the same place was read twice"


async def test_a_part_that_was_written_and_not_yet_forgotten_is_written_again_the_same(
    night: Backfilling,
) -> None:
    await night.feed(7)
    for lease in await night.claim():
        await night.settle(lease)
    await night.let_lease_end()
    token, standing = await night.lead()
    collector = Collector(night.store, Output(night.plan.output))
    cut = await collector._cut(standing)
    await night.store.begin_part(NAME, token, cut)
    await collector._write(standing, cut)
    first = night.records()

    # The leader dies here, and more items end before the next one comes.
    await night.let_lease_end()
    await night.feed(1)
    (lease,) = await night.claim()
    await night.settle(lease)
    await night.let_lease_end()
    newer, again = await night.lead()
    assert await collector.collect(again, newer, rest=False) == 7
    assert night.records() == first
    assert (await night.standing()).waiting == 1


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (FailureLimits(most=5), "items failed; the limit is 5"),
        (FailureLimits(largest_share=0.5), ""),
    ],
)
async def test_too_many_failures_pause_it_with_a_reason_until_someone_resumes_it(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, limits: FailureLimits, reason: str
) -> None:
    """A share counts from a hundred ends on, so the thirty items of this test never reach it."""
    run = await begin(redis, keys, ledger, tmp_path, limits=limits)
    async with run.working(failing="not_found"):
        ended = await Leader(run.store, NAME, announces=True).work()
        assert isinstance(ended, BackfillStatus)
        if not reason:
            assert ended.state is BackfillState.SUCCEEDED
            return
        assert ended.state is BackfillState.PAUSED
        assert reason in ended.reason
        resumed = 0
        while (await run.standing()).state is BackfillState.PAUSED:
            resumed += 1
            assert resumed <= ITEMS, "a resume forgives what failed until then"
            await resume(run.store, NAME)
            await Leader(run.store, NAME, announces=True).work()
    assert (await run.standing()).failures == {"not_found": ITEMS}
    assert run.items() == list(range(ITEMS))


@pytest.mark.parametrize(
    ("limits", "failed", "succeeded", "acknowledged", "acknowledged_of"),
    [
        (FailureLimits(largest_share=0.1), 10, 90, 0, 0),
        (FailureLimits(largest_share=0.1), 11, 89, 0, 0),
        (FailureLimits(largest_share=0.1), 50, 49, 0, 0),
        (FailureLimits(largest_share=0.1), 21, 179, 11, 100),
        (FailureLimits(largest_share=0.1), 22, 178, 11, 100),
        (FailureLimits(largest_share=0.1), 90, 109, 50, 100),
        (FailureLimits(most=5), 4, 0, 0, 0),
        (FailureLimits(most=5), 5, 0, 0, 0),
        (FailureLimits(most=5), 9, 7, 5, 5),
        (FailureLimits(most=5), 10, 7, 5, 5),
    ],
)
async def test_an_end_judges_the_failures_as_the_plan_does(
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    tmp_path: Path,
    limits: FailureLimits,
    failed: int,
    succeeded: int,
    acknowledged: int,
    acknowledged_of: int,
) -> None:
    """On both sides of each bound; what a resume has acknowledged counts no more."""
    run = await begin(redis, keys, ledger, tmp_path, limits=limits)
    await run.feed(1)
    counts: dict[Any, Any] = {
        "failed": failed - 1,
        "succeeded": succeeded,
        "acknowledged": acknowledged,
        "acknowledged_of": acknowledged_of,
    }
    await redis.hset(keys.group(NAME), mapping=counts)
    (lease,) = await run.claim(1)
    await run.settle(lease, "not_found")
    reason = limits.reason(failed - acknowledged, failed + succeeded - acknowledged_of)
    now = await run.standing()
    assert now.reason == reason
    assert now.state is (BackfillState.PAUSED if reason else BackfillState.RUNNING)
    # By the same rule its leader judges what it reads and can't make items of.
    assert now.excess == reason


async def test_the_share_after_a_resume_is_one_of_what_ends_from_then_on(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """Not of all that ended before, or nothing would pause it a second time."""
    run = await begin(redis, keys, ledger, tmp_path, limits=FailureLimits(largest_share=0.1))
    await run.feed(1)
    await redis.hset(keys.group(NAME), mapping={"failed": "50", "succeeded": "350"})
    await pause(run.store, NAME)
    await resume(run.store, NAME)
    await redis.hset(keys.group(NAME), mapping={"failed": "60", "succeeded": "439"})
    (lease,) = await run.claim(1)
    await run.settle(lease, "not_found")
    now = await run.standing()
    assert (now.state, now.failed) == (BackfillState.PAUSED, 61)
    assert "11 of 100 items failed" in now.reason


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        (FailureLimits(most=5), 5 + 3),
        (FailureLimits(largest_share=0.25), 100 + 3),
    ],
)
async def test_once_too_many_have_failed_only_what_runs_may_still_fail(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, limits: FailureLimits, most: int
) -> None:
    """The end of an item pauses it, not the leader, which may be busy with a part meanwhile."""
    run = await begin(redis, keys, ledger, tmp_path, limits=limits)
    await run.feed(300)
    places = [*await run.claim(4)]
    while places:
        await run.settle(places.pop(), "not_found")
        # A worker fills its places again at once.
        places += await run.claim(4 - len(places))
    now = await run.standing()
    assert now.state is BackfillState.PAUSED
    assert most - 3 <= now.failed <= most
    assert now.reason == limits.reason(most - 3, most - 3)
    for resumed in range(1, 3):
        await resume(run.store, NAME)
        (lease,) = await run.claim(1)
        await run.settle(lease, "not_found")
        after = await run.standing()
        assert after.failed == now.failed + resumed
        assert after.state is BackfillState.RUNNING, "what failed before counts no more"


async def test_rows_that_are_no_items_stop_it_at_its_limit_too(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    run = await begin(redis, keys, ledger, tmp_path, limits=FailureLimits(most=3))
    (tmp_path / "items.jsonl").write_bytes(b"{nonsense\n" * 200)
    for failed in (3, 6):
        ended = await Leader(run.store, NAME, announces=True).work()
        assert isinstance(ended, BackfillStatus)
        assert (ended.state, ended.failed) == (BackfillState.PAUSED, failed)
        assert ended.failures == {"invalid_item": failed}
        await resume(run.store, NAME)


def test_a_share_of_failures_counts_from_a_hundred_ends_on() -> None:
    limits = FailureLimits(largest_share=0.1)
    assert limits.reason(99, 99) == ""
    assert limits.reason(10, 100) == ""
    assert "11 of 100 items failed; the limit is 10.0%" in limits.reason(11, 100)


async def test_failures_can_be_fed_in_again_as_a_source(night: Backfilling) -> None:
    async with night.working(failing="not_found"):
        await Leader(night.store, NAME, announces=True).work()
    failures = (Output(night.plan.output).folder or night.plan).joinpath("failures.jsonl")  # type: ignore[union-attr]
    rows = [orjson.loads(line) for line in failures.read_bytes().splitlines()]
    assert len(rows) == ITEMS
    assert {row["data_uuid"] for row in rows} == {"x"}
    assert {row["error"]["code"] for row in rows} == {"not_found"}


async def test_parts_in_parquet_hold_the_same_records(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    run = await begin(redis, keys, ledger, tmp_path, part_format=PartFormat.PARQUET)
    async with run.working():
        await Leader(run.store, NAME, announces=True).work()
    assert run.items() == list(range(ITEMS))
    assert all(record["frames"] == {"0": []} for record in run.records())


async def test_an_output_that_can_t_be_written_pauses_it_and_loses_nothing(
    night: Backfilling, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file where the folder should be")
    async with night.working():
        ended = await Leader(night.store, NAME, announces=True).work()
        assert isinstance(ended, BackfillStatus)
        assert ended.state is BackfillState.PAUSED
        assert "can't be written" in ended.reason
        (tmp_path / "out").unlink()
        await resume(night.store, NAME)
        await Leader(night.store, NAME, announces=True).work()
    assert night.items() == list(range(ITEMS))


async def test_a_cancelled_one_whose_output_can_t_be_written_says_so_and_ends_by_the_next_cancel(
    night: Backfilling, tmp_path: Path
) -> None:
    await night.feed(2)
    (first,) = await night.claim(1)
    await night.settle(first)
    await night.let_lease_end()
    (tmp_path / "out").write_text("a file where the folder should be")
    waiting = await cancel_backfill(night.store, NAME)
    assert waiting is not None
    assert waiting.state is BackfillState.CANCELLING
    assert "can't be written" in waiting.reason
    (tmp_path / "out").unlink()
    ended = await cancel_backfill(night.store, NAME)
    assert ended is not None
    assert (ended.state, ended.dropped) == (BackfillState.CANCELLED, 1)
    assert night.items() == [0]


async def test_a_source_that_can_t_be_read_fails_it_before_anything_is_read(
    night: Backfilling, tmp_path: Path
) -> None:
    (tmp_path / "items.jsonl").unlink()
    ended = await Leader(night.store, NAME, announces=True).work()
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.FAILED
    assert "there is no such file" in ended.reason
    types = [event["type"] for event in await events(night.redis, night.keys.events)]
    assert types.count("backfill.failed") == 1


async def test_an_ended_backfill_changes_no_more(night: Backfilling) -> None:
    async with night.working():
        await Leader(night.store, NAME, announces=True).work()
    for act in (pause, resume, cancel_backfill):
        standing = await act(night.store, NAME)
        assert standing is not None
        assert standing.state is BackfillState.SUCCEEDED
    assert await night.store.transition(
        "unknown", Transition({BackfillState.RUNNING}, BackfillState.PAUSED)
    ) == (
        False,
        None,
    )


async def begin_queued(
    redis: Redis, keys: Keys, ledger: Ledger, folder: Path, **changes: Any
) -> tuple[Backfilling, Lease]:
    """Begins a backfill as its command does; returns the command's lease too."""
    lease = await lease_one(redis, ledger, NAME, command_type="backfill")
    return await begin(redis, keys, ledger, folder, by=lease, **changes), lease


def late(lease: Lease) -> RunResult:
    """Returns the end of a command whose deadline has passed."""
    event = b'{"type":"backfill.failed"}'
    return RunResult(
        lease, RowState.FAILED, 1, event=event, late=True, failure=ErrorCode.DEADLINE_EXCEEDED
    )


class Breaking(BaseHTTPRequestHandler):
    """Gives three rows more each second time that it is asked and breaks off; else it is busy."""

    rows: ClassVar[list[bytes]] = []
    asked: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        times, is_busy = divmod(len(self.asked) + 1, 2)
        text = b"".join(self.rows)
        self.send_response(503 if is_busy else 200)
        self.send_header("Content-Length", "0" if is_busy else str(len(text)))
        self.end_headers()
        if not is_busy:
            self.wfile.write(b"".join(self.rows[: 3 * times]))
        self.close_connection = True


async def test_a_source_that_breaks_now_and_then_is_read_to_its_end(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only failures in a row pause it, however many there are in all."""
    monkeypatch.setattr("worker.backfill.leader.SOURCE_PAUSE_SECONDS", 0)
    night_plan = make_plan(tmp_path)
    Breaking.rows = (tmp_path / "items.jsonl").read_bytes().splitlines(keepends=True)
    store = store_of(redis, keys)
    with serving(Breaking) as url:
        source = SourcePlan(f"{url}/items.jsonl", SourceFormat.JSONL)
        plan = replace(night_plan, source=source, window=200)
        await store.open(NAME, plan, Origin.CONSOLE, "bf-1")
        run = Backfilling(redis, keys, ledger, store, plan)
        async with run.working():
            ended = await Leader(store, NAME, announces=True).work()
    assert isinstance(ended, BackfillStatus)
    assert (ended.state, ended.reason) == (BackfillState.SUCCEEDED, "")
    assert run.items() == list(range(ITEMS))
    assert len(Breaking.asked) >= 2 * ITEMS // 3 - 1


class Away(BaseHTTPRequestHandler):
    """Is busy until it is told to answer."""

    text: ClassVar[bytes] = b""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_GET(self) -> None:
        self.send_response(200 if self.text else 503)
        self.send_header("Content-Length", str(len(self.text)))
        self.end_headers()
        self.wfile.write(self.text)


async def test_a_source_that_stays_away_pauses_it_after_some_tries_and_is_read_after_a_resume(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.leader.SOURCE_PAUSE_SECONDS", 0)
    night_plan = make_plan(tmp_path)
    store = store_of(redis, keys)
    with serving(Away) as url:
        source = SourcePlan(f"{url}/items.jsonl", SourceFormat.JSONL)
        plan = replace(night_plan, source=source)
        await store.open(NAME, plan, Origin.CONSOLE, "bf-1")
        leader = Leader(store, NAME, announces=True)
        for _ in range(2):
            with structlog.testing.capture_logs() as logs:
                ended = await leader.work()
            assert isinstance(ended, BackfillStatus)
            assert ended.state is BackfillState.PAUSED
            assert "the server answers 503" in ended.reason
            told = [line["event"] for line in logs]
            assert told.count("backfill.source_failed") == SOURCE_TRIES
            assert await resume(store, NAME) is not None
        Away.text = (tmp_path / "items.jsonl").read_bytes()
        run = Backfilling(redis, keys, ledger, store, plan)
        async with run.working():
            ended = await leader.work()
    assert isinstance(ended, BackfillStatus)
    assert (ended.state, ended.reason) == (BackfillState.SUCCEEDED, "")
    assert run.items() == list(range(ITEMS))


class Moving(BaseHTTPRequestHandler):
    """Sends whoever asks on to another address, where an item is."""

    asked: ClassVar[list[str]] = []

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(302 if self.path == "/moved.jsonl" else 200)
        self.send_header("Location", "/items.jsonl")
        self.end_headers()
        self.wfile.write(b'{"data_path": "a.png"}\n')


async def test_who_leads_for_a_worker_follows_a_source_to_no_other_address(
    redis: Redis, keys: Keys, ledger: Ledger, night_plan: Plan
) -> None:
    """Its URL was allowed, the other one was not."""
    lease = await lease_one(redis, ledger, NAME, command_type="backfill")
    store = store_of(redis, keys)
    with serving(Moving) as url:
        source = SourcePlan(f"{url}/moved.jsonl", SourceFormat.JSONL)
        await store.open_for(lease, replace(night_plan, source=source))
        # Who follows has an item, which nobody ends here.
        ended = await Leader(store, NAME, announces=False).work(seconds=60)
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.FAILED
    assert "names another address, which a worker does not follow" in ended.reason
    assert Moving.asked == ["/moved.jsonl"]


async def test_a_command_that_has_ended_begins_no_backfill(
    redis: Redis, keys: Keys, ledger: Ledger, night_plan: Plan
) -> None:
    """It was cancelled after its worker had looked and found none."""
    lease = await lease_one(redis, ledger, NAME, command_type="backfill")
    store = store_of(redis, keys)
    again = await cancel(redis, keys, NAME, retention_seconds=60, reply_retention_seconds=60)
    assert again.status is CancelStatus.CANCELLED
    with pytest.raises(FencedError):
        await store.open_for(lease, night_plan)
    assert await store.look(NAME) is None
    assert await store.ids() == []


async def types(run: Backfilling) -> list[str]:
    """Returns what was told of the command, from its acceptance on."""
    return [event["type"].partition(".")[2] for event in await events(run.redis, run.keys.events)]


async def test_a_backfill_whose_command_fails_waits_for_someone_who_leads_it_to_its_end(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """Its command has told its end, so nothing more is told of it."""
    run, lease = await begin_queued(redis, keys, ledger, tmp_path)
    await run.feed(5)
    (running,) = await run.claim(1)
    assert await ledger.finish([late(lease)]) == [True]
    now = await run.standing()
    assert (now.state, now.origin) == (BackfillState.PAUSED, Origin.CONSOLE)
    assert now.reason == "its command failed: deadline_exceeded"
    assert await run.claim() == [], "past the deadline nothing is started"
    assert await run.settle(running), "what runs may end"

    await run.let_lease_end()
    await resume(run.store, NAME)
    async with run.working():
        ended = await Leader(run.store, NAME, announces=True).work()
    assert isinstance(ended, BackfillStatus)
    assert ended.state is BackfillState.SUCCEEDED
    assert run.items() == list(range(ITEMS))
    assert await types(run) == ["accepted", "failed"]


async def test_a_paused_backfill_whose_command_fails_tells_both_reasons(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    run, lease = await begin_queued(redis, keys, ledger, tmp_path)
    await pause(run.store, NAME)
    await ledger.finish([late(lease)])
    now = await run.standing()
    assert now.state is BackfillState.PAUSED
    assert now.reason == "its command failed: deadline_exceeded; someone paused it"


async def test_a_cancelled_backfill_whose_command_fails_can_still_be_ended(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """No worker comes to write what has ended; whoever cancels it once more does."""
    run, lease = await begin_queued(redis, keys, ledger, tmp_path)
    await run.feed(5)
    (running,) = await run.claim(1)
    await run.settle(running)
    await cancel_backfill(run.store, NAME)
    await ledger.finish([late(lease)])
    assert (await run.standing()).state is BackfillState.CANCELLING
    await run.let_lease_end()
    ended = await cancel_backfill(run.store, NAME)
    assert ended is not None
    assert (ended.state, ended.dropped) == (BackfillState.CANCELLED, 4)
    assert run.items() == [0]
    assert await types(run) == ["accepted", "failed"]


@pytest.mark.parametrize("own", [False, True])
async def test_a_command_that_fails_leaves_another_one_s_backfill_alone_and_one_that_has_ended(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path, *, own: bool
) -> None:
    run, lease = await begin_queued(redis, keys, ledger, tmp_path)
    if own:
        async with run.working():
            await Leader(run.store, NAME, announces=False).work()
    else:
        await redis.hset(keys.group(NAME), "entry", "another's")
    before = await run.standing()
    assert await ledger.finish([late(lease)]) == [True]
    assert await run.standing() == before
