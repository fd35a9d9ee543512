"""A worker's insides on a stub of the API: whole backfills in this process, and no model."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson

from tests.integration.backfilling import NAME, command
from tests.integration.worker_bench import Bench, open_bench, running_runner
from tests.stub_api import StubApi, reply
from worker.backfill.handler import Backfills
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.backfill.status import BackfillStatus
    from worker.backfill.store import BackfillStore
    from worker.queue.ledger.ledger import Ledger

# Nothing was found on the one frame of any picture.
NOTHING = reply(200, orjson.dumps({"result": {"0": []}}))
COMMON: dict[str, Any] = {
    name: value for name, value in command(0)["data"].items() if name != "data_uuid"
}
SLOTS = 8


@asynccontextmanager
async def open_stubbed(
    redis: Redis, ledger: Ledger, stub: StubApi, folder: Path
) -> AsyncIterator[Bench]:
    """Builds a bench whose API finds nothing on any picture; commands may read the folder."""
    stub.default = NOTHING
    async with open_bench(redis, ledger, None, folder, domain=stub.url) as bench:
        yield bench


@asynccontextmanager
async def working(bench: Bench, lease_seconds: float = 30) -> AsyncIterator[None]:
    """Carries out whatever is due, while it is entered."""

    async def sweep() -> None:
        while not over.is_set():
            pool.wake()
            await asyncio.sleep(0.01)

    over = asyncio.Event()
    async with running_runner(bench, SLOTS, lease_seconds=lease_seconds) as pool:
        sweeping = asyncio.create_task(sweep())
        try:
            yield
        finally:
            over.set()
            await sweeping


def data(source: Path | str, **more: Any) -> dict[str, Any]:
    """Returns the data of a command on a source."""
    return {**COMMON, "source": str(source), **more}


def store_of_bench(bench: Bench) -> BackfillStore:
    """Returns the backfills of the bench's worker."""
    return bench.executor.dependencies.service(Backfills).store


async def standing(bench: Bench, backfill_id: str = NAME) -> BackfillStatus:
    """Returns how a backfill stands."""
    found = await store_of_bench(bench).look(backfill_id)
    assert found is not None
    return found


def records_in(location: str) -> dict[int, dict[str, Any]]:
    """Returns the records of all parts below a folder, by the item's number."""
    found = list(read_records(Output(location)))
    by_number = {record["item"]: record for record in found}
    assert len(by_number) == len(found)
    return by_number


def write_lines(path: Path, *rows: Any) -> Path:
    """Writes a manifest of JSON lines; what is bytes stands there as it is."""
    lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def asked(stub: StubApi) -> list[dict[str, Any]]:
    """Returns what the API was asked, in order."""
    return [orjson.loads(each.body) for each in stub.recorded]
