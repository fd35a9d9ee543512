"""Sources read to their end, and what the items of a backfill say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from schemas.parsing import parse_command
from worker.backfill.plan import Plan, SourcePlan
from worker.backfill.sources.formats import guess_format
from worker.backfill.sources.reader import Reader

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.backfill.store import FeedItem

COMMON = {
    "task": "object_detection",
    "project_uuid": str(UUID(int=1)),
    "project_model_uuid": str(UUID(int=2)),
    "training_uuid": str(UUID(int=3)),
    "conf_thresh": 0.5,
}


def uuid(number: int) -> str:
    return str(UUID(int=number))


def plan_of(location: str, columns: Mapping[str, str] | None = None) -> Plan:
    source = SourcePlan(location, guess_format(location), columns or {})
    return Plan(common=COMMON, source=source, output="unused")


def read_all(
    location: str, columns: Mapping[str, str] | None = None, most: int = 9
) -> list[FeedItem]:
    """Reads a source batch by batch, each by a reader of its own, as if each had died."""
    plan = plan_of(location, columns)
    items: list[FeedItem] = []
    position, exhausted = "", False
    while not exhausted:
        batch = asyncio.run(Reader("b", plan).read(len(items), position, most))
        items += batch.items
        position, exhausted = batch.position, batch.exhausted
    return items


def data_of(item: FeedItem) -> dict[str, Any]:
    assert item.text, item.problem
    return parse_command(item.text).command.data.model_dump(mode="json", exclude_unset=True)


def problem_of(item: FeedItem) -> str:
    assert not item.text
    record = orjson.loads(item.problem)
    assert record["error"]["code"] == "invalid_item"
    return f"{record['place']}: {record['error']['message']}"
