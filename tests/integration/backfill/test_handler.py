"""Backfills that come as commands: from the message to the result, in a worker's insides."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest

from schemas.enums import EventState
from tests.integration.backfill_bench import (
    COMMON,
    data,
    records_in,
    standing,
    store_of_bench,
    working,
    write_lines,
)
from tests.integration.backfilling import NAME, make_plan
from tests.integration.ledger_acts import events
from tests.integration.worker_bench import Bench, in_seconds, until_ended
from tests.stub_api import StubApi, reply
from worker.backfill.handler import PAUSED_SECONDS
from worker.backfill.leader import LEASE_SECONDS
from worker.backfill.results.output import Output
from worker.backfill.status import BackfillState, Origin
from worker.backfill.store import NOBODY
from worker.backfill.transitions import cancel_backfill, pause, resume
from worker.queue.ledger.models import RowState

if TYPE_CHECKING:
    from pathlib import Path

    from worker.queue.ledger.models import RunResult

GOOD = 12
UUIDS = [str(UUID(int=100 + number)) for number in range(GOOD)]


@pytest.fixture
def bench(stub_bench: Bench) -> Bench:
    """A worker whose API finds nothing on any picture."""
    return stub_bench


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A manifest of good items."""
    return write_lines(tmp_path / "items.jsonl", *({"data_uuid": each} for each in UUIDS))


async def attempt(bench: Bench) -> RunResult:
    """Leads the backfill for a slice; returns how that ended."""
    finish = await bench.attempt(NAME)
    assert finish is not None
    return finish


async def failure(bench: Bench) -> dict[str, Any]:
    """Returns the error that the backfill's command has failed with."""
    assert (await attempt(bench)).state is RowState.FAILED
    error: dict[str, Any] = (await bench.told(NAME))[-1]["data"]["error"]
    return error


async def test_a_command_has_each_item_predicted_and_says_so_where_it_was_asked_to(
    bench: Bench, source: Path, tmp_path: Path
) -> None:
    attributes = {"id": NAME, "replyto": "owner", "correlationid": "order-1"}
    await bench.send("backfill", data(source), **attributes)
    async with working(bench):
        await until_ended(bench, NAME)
    output = str(tmp_path / "results" / "backfills" / f"backfill-{NAME}")
    *before, end = await bench.told(NAME)
    result = end["data"]["result"]
    assert end["type"] == "backfill.succeeded"
    assert (result["items"], result["succeeded"], result["output"]) == (GOOD, GOOD, output)
    assert {each["type"] for each in before} == {"backfill.accepted", "backfill.progressed"}
    assert {each["correlationid"] for each in [*before, end]} == {"order-1"}
    replies = await events(bench.redis, bench.ledger.keys.replies("owner"))
    assert [each["id"] for each in replies] == [each["id"] for each in [*before, end]]

    found = records_in(output)
    assert sorted(found) == list(range(GOOD))
    for number, record in found.items():
        assert 0 <= record.pop("seconds") < 60
        told = {"data_uuid": UUIDS[number], "frames": {"0": []}, "attempts": 1}
        assert record == {"item": number, "state": "succeeded", **told}


@pytest.mark.parametrize(
    ("more", "path", "said"),
    [
        ({"source": "/etc/hostname"}, "data.source", "outside the folders of TRAINMASTER_DATA"),
        ({"source": "/etc/\0"}, "data.source", "not a usable path"),
        ({"source": "s3://bucket/a.csv"}, "data.source", "none of TRAINMASTER_SOURCE_URLS"),
        ({"source": "file:///etc/hostname"}, "data.source", "outside the folders of TRAINMASTER"),
        ({"source": "zip::a.csv"}, "data.source", "none of TRAINMASTER_SOURCE_URLS"),
        ({"source": "{folder}/missing.csv"}, "data.source", "there is no such file or folder"),
        ({"source": "{folder}/link.jsonl"}, "data.source", "outside the folders of TRAINMASTER"),
        (
            {"source": "{folder}/pictures", "columns": {"data_path": "file"}},
            "data.columns",
            "a folder of images has no columns",
        ),
    ],
)
async def test_a_source_that_may_not_be_read_is_refused_and_leaves_no_backfill(
    bench: Bench, tmp_path: Path, more: dict[str, Any], path: str, said: str
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    (tmp_path / "link.jsonl").symlink_to("/etc/hostname")
    source = more.pop("source").format(folder=tmp_path)
    await bench.send("backfill", data(source, **more), id=NAME)
    error = await failure(bench)
    (problem,) = error["problems"]
    assert (error["code"], problem["path"]) == ("invalid_input", path)
    assert said in problem["message"]
    assert await store_of_bench(bench).look(NAME) is None


async def test_a_source_may_be_a_file_s_url_below_the_data_roots(
    bench: Bench, tmp_path: Path
) -> None:
    """As a `data_path` and a `dataref` may, and as the command line takes it."""
    (tmp_path / "my items").mkdir()
    source = write_lines(tmp_path / "my items" / "a.jsonl", {"data_uuid": UUIDS[0]})
    await bench.send("backfill", data(source.as_uri()), id=NAME)
    async with working(bench):
        await until_ended(bench, NAME)
    now = await standing(bench)
    assert (now.plan.source.location, now.succeeded) == (str(source), 1)


async def test_a_server_of_a_source_that_is_busy_is_asked_again_later(
    bench: Bench, stub: StubApi
) -> None:
    """A folder is listed to see what it holds, before anything is begun."""
    url = f"{stub.url}/pictures/"
    dependencies = replace(bench.executor.dependencies, source_urls=(url,))
    bench = replace(bench, executor=replace(bench.executor, dependencies=dependencies))
    stub.default = reply(503)
    await bench.send("backfill", data(url), id=NAME)
    assert (await attempt(bench)).state is RowState.RETRYING
    error = (await bench.told(NAME))[-1]["data"]["error"]
    assert error["code"] == "data_unavailable"
    assert "can't be read: the server answers 503" in error["message"]
    assert await store_of_bench(bench).look(NAME) is None


async def test_a_command_takes_over_no_backfill_that_another_one_began(
    bench: Bench, source: Path, tmp_path: Path
) -> None:
    """Neither that of a console nor one of an earlier command, whose row is gone."""
    plan = make_plan(tmp_path)
    store = store_of_bench(bench)
    await store.open(NAME, plan, Origin.CONSOLE, "bf-1")
    await bench.send("backfill", data(source), id=NAME)
    error = await failure(bench)
    assert [each["path"] for each in error["problems"]] == ["id"]
    now = await standing(bench)
    assert (now.plan, now.read, now.state) == (plan, 0, BackfillState.RUNNING)

    await store.open("day", plan, Origin.QUEUE, "1-1")
    await bench.send("backfill", data(source), id="day")
    finish = await bench.attempt("day")
    assert finish is not None
    assert (finish.state, finish.failure) == (RowState.FAILED, "invalid_input")
    assert (await standing(bench, "day")).read == 0


async def test_a_slice_that_is_over_is_followed_by_the_next_at_once(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
    await bench.send("backfill", data(source), id=NAME)
    first = await attempt(bench)
    assert (first.state, first.delay_seconds) == (RowState.RUNNING, 0.0)
    now = await standing(bench)
    assert (now.state, now.led_ms, now.open) == (BackfillState.RUNNING, 0, 8), "a full window"
    async with working(bench):
        await until_ended(bench, NAME)
    assert sorted(records_in(now.plan.output)) == list(range(GOOD))


async def test_what_another_process_leads_is_looked_at_again_once_its_lease_is_over(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
    await bench.send("backfill", data(source), id=NAME)
    await attempt(bench)
    lease_ms = int(LEASE_SECONDS * 1000)
    token, _ = await store_of_bench(bench).lead(NAME, NOBODY, lease_ms=lease_ms)
    second = await attempt(bench)
    assert second.state is RowState.RUNNING
    assert LEASE_SECONDS / 2 < second.delay_seconds <= LEASE_SECONDS
    kept, _ = await store_of_bench(bench).lead(NAME, token, lease_ms=lease_ms)
    assert kept == token


async def test_a_paused_backfill_is_looked_at_now_and_then_and_goes_on_once_resumed(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
        await bench.send("backfill", data(source), id=NAME)
        await attempt(bench)
    store = store_of_bench(bench)
    await pause(store, NAME)
    paused = await attempt(bench)
    assert (paused.state, paused.delay_seconds) == (RowState.RUNNING, PAUSED_SECONDS)
    await resume(store, NAME)
    async with working(bench):
        await bench.redis.zadd(bench.ledger.keys.due_interactive, {NAME: 0})
        await until_ended(bench, NAME)
    assert (await standing(bench)).succeeded == GOOD


async def test_a_backfill_that_was_cancelled_ends_its_command_as_cancelled(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
    await bench.send("backfill", data(source), id=NAME, replyto="owner")
    await attempt(bench)
    cancelling = await cancel_backfill(store_of_bench(bench), NAME)
    assert cancelling is not None
    assert cancelling.state is BackfillState.CANCELLING, "its worker ends it"
    assert await bench.attempt(NAME) is None, "the cancellation has ended the command"
    assert await bench.state(NAME) == RowState.CANCELLED
    assert (await bench.states(NAME)).count(EventState.CANCELLED) == 1
    replies = await events(bench.redis, bench.ledger.keys.replies("owner"))
    assert replies[-1]["type"] == "backfill.cancelled"
    assert (await standing(bench)).dropped == 8, "what waited never runs"


async def test_past_its_deadline_a_command_ends_and_its_backfill_pauses(
    bench: Bench, source: Path
) -> None:
    """No slice and no wait goes on beyond it."""
    await bench.send("backfill", data(source), id=NAME, deadline=in_seconds(1.5))
    finish = await attempt(bench)
    assert (finish.state, finish.failure) == (RowState.FAILED, "deadline_exceeded")
    now = await standing(bench)
    assert now.state is BackfillState.PAUSED
    assert now.reason == "its command failed: deadline_exceeded"


async def test_a_paused_backfill_is_looked_at_again_by_its_deadline_at_the_latest(
    bench: Bench, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
    moment = 1_000_000.0
    dependencies = replace(bench.executor.dependencies, now=lambda: moment)
    bench = replace(bench, executor=replace(bench.executor, dependencies=dependencies))
    deadline = "1970-01-12T13:46:42Z"
    await bench.send("backfill", data(source), id=NAME, deadline=deadline)
    await attempt(bench)
    await pause(store_of_bench(bench), NAME)
    assert (await attempt(bench)).delay_seconds == 2.0


async def test_a_source_that_is_wrong_fails_the_command_by_what_is_wrong_with_it(
    bench: Bench, tmp_path: Path
) -> None:
    rows = [{"picture": "a.png"}, {"picture": "b.png"}]
    await bench.send("backfill", data(write_lines(tmp_path / "odd.jsonl", *rows)), id=NAME)
    error = await failure(bench)
    assert error["code"] == "invalid_input"
    assert "none of its first 2 rows names data_uuid, data_path" in error["message"]
    ended = [each for each in await bench.states(NAME) if each == EventState.FAILED]
    assert len(ended) == 1, "by its command alone"


async def test_the_settings_of_a_command_s_backfill_are_the_command_s_and_the_worker_s(
    bench: Bench, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.backfill.handler.SLICE_SECONDS", 0.0)
    more = {
        "iou_thresh": 0.4,
        "max_failures": 3,
        "max_failure_share": 0.25,
        "part_format": "parquet",
        "columns": {"data_uuid": "data_uuid"},
        "item_events": True,
    }
    context = {"correlationid": "order-1", "replyto": "owner", "tenant": "acme"}
    await bench.send("backfill", data(source, **more), id="Night/1", **context)
    await bench.attempt("Night/1")
    plan = (await standing(bench, "Night/1")).plan
    below, _, folder = plan.output.rpartition("/")
    told = orjson.loads(plan.json())
    assert {name: told[name] for name in ("window", "part_items", "part_format")} == {
        "window": 8,
        "part_items": 7,
        "part_format": "parquet",
    }
    assert (plan.limits.most, plan.limits.largest_share) == (3, 0.25)
    assert plan.common == {**COMMON, "iou_thresh": 0.4}
    assert plan.source.columns == {"data_uuid": "data_uuid"}
    assert plan.item_events
    assert plan.reply_to == "owner"
    assert plan.context == context
    assert below == str(tmp_path / "results" / "backfills")
    assert folder.startswith("backfill-night-1~"), "no part of a path, and no other id's"
    assert Output(plan.output).part_names() == []
