"""One backfill on a real Redis, whose items a test ends as a worker does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from schemas.enums import PredictTask, SourceFormat
from worker.backfill.keys import backfill_key
from worker.backfill.leader import Leader
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.backfill.store import NOBODY, BackfillStore, FeedItem, LeadToken
from worker.queue.ledger.models import Lease, RowState, RunResult

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

ITEMS = 30
NAME = "night"
LEASE_MS = 60_000


@dataclass
class Backfilling:
    """One backfill of a test, begun but led by nobody."""

    redis: Redis
    keys: Keys
    ledger: Ledger
    store: BackfillStore
    plan: Plan
    seen: list[str] = field(default_factory=list)

    async def standing(self) -> BackfillStatus:
        found = await self.store.look(NAME)
        assert found is not None
        return found

    async def lead(self) -> tuple[LeadToken, BackfillStatus]:
        token, standing = await self.store.lead(NAME, NOBODY, lease_ms=LEASE_MS)
        assert token != NOBODY
        assert standing is not None
        return token, standing

    async def let_lease_end(self) -> None:
        """Does what time does to the lease of a leader that died."""
        await self.redis.hset(backfill_key(self.keys, NAME), "leader_until", "0")

    async def feed(self, count: int) -> tuple[LeadToken, BackfillStatus]:
        token, standing = await self.lead()
        items = [FeedItem(orjson.dumps(command(standing.read + step))) for step in range(count)]
        assert await self.store.feed(standing, token, items, str(count), exhausted=False)
        return token, await self.standing()

    async def claim(self, most: int = 100) -> list[Lease]:
        return (await self.ledger.claim(most, bulk_most=most)).leases

    async def settle(self, lease: Lease, failure: str = "", **more: Any) -> bool:
        """Ends an item as a worker does; `more` stands in its record too."""
        state = RowState.FAILED if failure else RowState.SUCCEEDED
        number = lease.member
        record: dict[str, Any] = {"item": number, "state": state, "attempts": 1, "seconds": 0.1}
        if failure:
            record |= {"error": {"code": failure, "message": "no"}, "input": {"data_uuid": "x"}}
        else:
            record |= {"data_uuid": lease.command_id, "frames": {"0": []}}
        record |= more
        finish = RunResult(lease, state, 1, member_result=orjson.dumps(record), failure=failure)
        self.seen.append(lease.command_id)
        (done,) = await self.ledger.finish([finish])
        return done

    @asynccontextmanager
    async def working(
        self, failing: str = "", tell: Callable[[int], dict[str, Any]] = lambda _: {}
    ) -> AsyncIterator[None]:
        """A worker that ends whatever is due, while it is entered.

        Args:
            failing: the code of every item's failure; none fails without one.
            tell: gets an item's number; what it returns stands in its record.
        """

        async def work() -> None:
            while not over.is_set():
                for lease in await self.claim(5):
                    number = lease.member
                    await self.settle(lease, failing, **tell(number))
                await asyncio.sleep(0.002)

        over = asyncio.Event()
        task = asyncio.create_task(work())
        try:
            yield
        finally:
            # Not cancelled: redis-py may swallow that, and the worker would live on.
            over.set()
            await task

    def records(self) -> list[dict[str, Any]]:
        return list(read_records(Output(self.plan.output)))

    def items(self) -> list[int]:
        """Returns the numbers of all items in the parts, in order."""
        return sorted(record["item"] for record in self.records())


def command(number: int) -> dict[str, Any]:
    data = {
        "task": PredictTask.OBJECT_DETECTION,
        "project_uuid": str(UUID(int=1)),
        "project_model_uuid": str(UUID(int=2)),
        "training_uuid": str(UUID(int=3)),
        "data_uuid": str(UUID(int=number)),
    }
    return {"type": "predict", "priority": "bulk", "data": data}


def store_of(redis: Redis, keys: Keys) -> BackfillStore:
    return BackfillStore(redis, keys, retention_seconds=600, reply_retention_seconds=600)


def make_plan(folder: Path, **changes: Any) -> Plan:
    source = folder / "items.jsonl"
    source.write_bytes(
        b"".join(
            orjson.dumps({"data_uuid": str(UUID(int=number))}) + b"\n" for number in range(ITEMS)
        )
    )
    common = command(0)["data"]
    del common["data_uuid"]
    return Plan(
        common=common,
        source=SourcePlan(str(source), SourceFormat.JSONL),
        **{"output": str(folder / "out"), "window": 8, "part_items": 7, **changes},
    )


async def begin(
    redis: Redis,
    keys: Keys,
    ledger: Ledger,
    folder: Path,
    *,
    by: Lease | None = None,
    **changes: Any,
) -> Backfilling:
    plan = make_plan(folder, **changes)
    store = store_of(redis, keys)
    if by is None:
        await store.open(NAME, plan, Origin.CONSOLE, "bf-1")
    else:
        await store.open_for(by, plan)
    return Backfilling(redis, keys, ledger, store, plan)


async def run_to_the_end(night: Backfilling, failing: str = "") -> BackfillStatus:
    """Leads a backfill until it has ended; returns how."""
    async with night.working(failing):
        found = await Leader(night.store, NAME, announces=True).work(seconds=60)
    assert isinstance(found, BackfillStatus)
    assert found.state is BackfillState.SUCCEEDED
    return found
