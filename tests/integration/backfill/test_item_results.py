"""What an item came to: its record in the results, and what is told of it meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from tests.integration.backfill_bench import (
    NOTHING,
    data,
    records_in,
    standing,
    working,
    write_lines,
)
from tests.integration.backfilling import NAME
from tests.integration.ledger_acts import events
from tests.integration.worker_bench import Bench, until_ended
from tests.stub_api import StubApi, reply

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

GOOD = 3
UUIDS = [str(UUID(int=100 + number)) for number in range(GOOD)]


@pytest.fixture
def bench(stub_bench: Bench) -> Bench:
    """A worker whose API finds nothing on any picture."""
    return stub_bench


async def records_of(bench: Bench, source: Path, **more: Any) -> list[dict[str, Any]]:
    """Runs the backfill of a manifest to its end; returns the records of its items in order."""
    await bench.send("backfill", data(source, **more), id=NAME)
    async with working(bench):
        await until_ended(bench, NAME)
    found = records_in((await standing(bench)).plan.output)
    return [found[number] for number in sorted(found)]


async def test_a_failure_s_record_is_its_source_s_row_again_and_says_where_that_stands(
    bench: Bench, tmp_path: Path
) -> None:
    """A threshold that a row names is kept, whatever goes without saying."""
    missing = str(tmp_path / "missing.png")
    rows = [{"data_path": missing, "conf_thresh": 0.6}, b"{nonsense", {"data_path": missing}]
    source = write_lines(tmp_path / "bad.jsonl", *rows)
    first, broken, last = await records_of(bench, source, conf_thresh=0.8)
    assert first["input"] == {"data_path": missing, "conf_thresh": 0.6}
    assert last["input"] == {"data_path": missing, "conf_thresh": 0.8}
    for record, code in ((first, "invalid_input"), (broken, "invalid_item")):
        assert (record["state"], record["error"]["code"]) == ("failed", code)
    assert [each["place"] for each in (first, broken, last)] == ["line 1", "line 2", "line 3"]
    assert (first["attempts"], broken["input"]) == (1, {"row": "{nonsense"})


async def test_an_item_that_succeeds_at_its_third_attempt_says_so(
    bench: Bench, stub: StubApi, tmp_path: Path
) -> None:
    stub.answers.extend([reply(503), reply(503), NOTHING])
    one = write_lines(tmp_path / "one.jsonl", {"data_uuid": UUIDS[0]})
    (record,) = await records_of(bench, one)
    assert (record["state"], record["attempts"]) == ("succeeded", 3)


async def test_an_item_fails_with_all_the_attempts_that_it_had(
    bench: Bench, stub: StubApi, tmp_path: Path
) -> None:
    stub.default = reply(503)
    one = write_lines(tmp_path / "one.jsonl", {"data_uuid": UUIDS[0]})
    (record,) = await records_of(bench, one)
    assert (record["state"], record["attempts"]) == ("failed", len(stub.recorded))


async def test_the_ends_of_items_are_told_only_where_that_was_asked_for(
    bench: Bench, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "items.jsonl", *({"data_uuid": each} for each in UUIDS))
    for name, wanted in (("loud", True), ("quiet", False)):
        await bench.send("backfill", data(source, item_events=wanted), id=name)
    async with working(bench):
        for name in ("loud", "quiet"):
            await until_ended(bench, name)
    told = await events(bench.redis, bench.ledger.keys.events)
    of_items = [each for each in told if each["type"].startswith("predict.")]
    ends = [each["subject"] for each in of_items if each["type"] == "predict.succeeded"]
    assert sorted(ends) == sorted(f"loud/{number}" for number in range(GOOD))
    assert {each["source"] for each in of_items} == {"/trainmaster/backfills/loud"}
