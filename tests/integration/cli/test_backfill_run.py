"""`trainmaster backfill run`: the real command, beside a worker's insides on a stub of the API."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson
import pytest
from PIL import Image

from tests.console import finish
from tests.integration.backfill_bench import (
    COMMON,
    asked,
    records_in,
    standing,
    working,
    write_lines,
)
from tests.integration.backfilling import NAME
from tests.integration.ledger_acts import events
from tests.stub_api import StubApi, reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.console import Console, Said
    from tests.integration.worker_bench import Bench

GOOD = 9
ROWS: list[dict[str, Any]] = [{"data_uuid": str(UUID(int=100 + number))} for number in range(GOOD)]
OPTIONS = (
    *("--project", COMMON["project_uuid"], "--attachment", COMMON["project_model_uuid"]),
    *("--training", COMMON["training_uuid"], "--id", NAME),
)


@pytest.fixture
async def bench(stub_bench: Bench) -> AsyncIterator[Bench]:
    """A worker whose API finds nothing on any picture, and that works while the test runs."""
    async with working(stub_bench):
        yield stub_bench


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A manifest of good items."""
    return write_lines(tmp_path / "items.jsonl", *ROWS)


async def backfill(console: Console, *arguments: str, stdin: bytes = b"") -> Said:
    """Runs a command of `trainmaster backfill` while the worker works."""
    return await asyncio.to_thread(console.run, "backfill", *arguments, stdin=stdin)


async def run(
    console: Console, source: Path | str, folder: Path, *more: str, stdin: bytes = b""
) -> Said:
    """Runs a backfill whose results go to `out` in a folder."""
    options = (*OPTIONS, "--task", "object_detection", "--output", str(folder / "out"))
    return await backfill(console, "run", str(source), *options, *more, stdin=stdin)


async def test_a_run_ends_with_its_results_and_tells_that_it_did(
    bench: Bench, console: Console, source: Path, tmp_path: Path
) -> None:
    said = await run(console, source, tmp_path, "--json")
    assert said.code == 0, said.err
    (told,) = said.lines
    assert (told["id"], told["state"], told["succeeded"]) == (NAME, "succeeded", GOOD)
    assert sorted(records_in(str(tmp_path / "out"))) == list(range(GOOD))
    events_told = await events(bench.redis, bench.ledger.keys.events)
    states = [each["type"] for each in events_told]
    assert (states[0], states[-1]) == ("backfill.accepted", "backfill.succeeded")
    assert events_told[-1]["data"]["result"]["output"] == str(tmp_path / "out")


async def test_each_threshold_is_asked_for_and_an_item_s_own_goes_before_it(
    bench: Bench, console: Console, stub: StubApi, tmp_path: Path
) -> None:
    """Those of the command line hold for items that name none; 0 is one as well."""
    rows = [ROWS[0], {**ROWS[1], "rdp_thresh": 0.002}]
    said = await backfill(
        console,
        *("run", str(write_lines(tmp_path / "two.jsonl", *rows)), *OPTIONS),
        *("--task", "instance_segmentation", "--output", str(tmp_path / "out")),
        *("--conf-thresh", "0", "--iou-thresh", "0.45", "--rdp-thresh", "0.008"),
    )
    assert said.code == 0, said.err
    seen = {each["dataUuid"]: each for each in asked(stub)}
    for row, rdp in zip(rows, (0.008, 0.002), strict=True):
        found = seen[row["data_uuid"]]
        names = ("confThresh", "iouThresh", "rdpThresh")
        assert [found[name] for name in names] == [0, 0.45, rdp]
    assert (await standing(bench)).state.ended


async def test_each_option_is_a_part_of_the_plan(
    bench: Bench, console: Console, tmp_path: Path
) -> None:
    source = write_lines(tmp_path / "items.txt", *({"which": each["data_uuid"]} for each in ROWS))
    said = await run(
        *(console, source, tmp_path, "--format", "jsonl", "--map", "data_uuid=which"),
        *("--window", "3", "--part-items", "4", "--part-format", "parquet", "--item-events"),
        *("--max-failures", "5", "--max-failure-share", "0.5"),
    )
    assert said.code == 0, said.err
    plan = (await standing(bench)).plan
    assert plan.common == COMMON
    assert plan.source.columns == {"data_uuid": "which"}
    assert (plan.window, plan.part_items, plan.item_events) == (3, 4, True)
    assert (plan.limits.most, plan.limits.largest_share) == (5, 0.5)
    parts = sorted(each.name for each in (tmp_path / "out" / "parts").iterdir())
    assert parts == [f"part-{number:06d}.parquet" for number in range(3)]
    told = await events(bench.redis, bench.ledger.keys.events)
    assert sum(each["type"] == "predict.succeeded" for each in told) == GOOD


def test_ctrl_c_says_how_to_go_on(console: Console, source: Path, tmp_path: Path) -> None:
    process = console.start(
        *("backfill", "run", str(source), *OPTIONS, "--task", "object_detection"),
        *("--output", str(tmp_path / "out")),
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith(f"backfill {NAME}; ")
    status = console.run("backfill", "status", NAME, "--json").lines[0]
    assert status["state"] == "running"
    said = finish(process, signal.SIGINT)
    assert said.code == 1
    assert said.err.splitlines()[-1] == (
        f"stopped leading it, and nothing is lost; to go on: trainmaster backfill resume {NAME}"
    )


@pytest.mark.usefixtures("bench")
async def test_a_run_some_of_whose_items_fail_ends_with_one_and_these_run_again(
    console: Console, stub: StubApi, tmp_path: Path
) -> None:
    """Once fixed they succeed, and then none is left that failed."""
    stub.answers.extend([reply(404)] * 2)
    source = write_lines(tmp_path / "items.jsonl", *ROWS)
    said = await run(console, source, tmp_path)
    assert said.code == 1
    assert "2 items failed:" in said.out
    assert "2 × not_found" in said.out
    again = await backfill(console, "retry-failed", NAME, "--json")
    assert again.code == 0, again.err
    assert [(each["id"], each["succeeded"]) for each in again.lines] == [(f"{NAME}.retry", 2)]
    third = await backfill(console, "retry-failed", NAME)
    assert third.code == 1
    assert f"none of the items of {NAME}.retry failed" in third.err
    assert sorted(records_in(str(tmp_path / "out"))) == list(range(GOOD))


async def test_the_same_run_again_does_nothing_more_and_another_of_its_id_is_refused(
    bench: Bench, console: Console, stub: StubApi, source: Path, tmp_path: Path
) -> None:
    for _ in range(2):
        said = await run(console, source, tmp_path, "--json")
        assert (said.code, said.lines[0]["succeeded"]) == (0, GOOD)
    assert len(stub.recorded) == GOOD
    other = await run(console, source, tmp_path, "--window", "5")
    assert other.code == 2
    assert f"the backfill {NAME} was begun with other options (window): give the same" in other.err
    accepted = await events(bench.redis, bench.ledger.keys.events)
    assert [each["type"] for each in accepted].count("backfill.accepted") == 1


@pytest.mark.usefixtures("bench")
async def test_pictures_that_only_a_later_call_asks_for_are_drawn_all_the_same(
    console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once: the folder is then nobody's promise any more.

    It is kept whole: who goes on may stand in another folder.
    """
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    source = write_lines(tmp_path / "one.jsonl", {"data_path": "a.png"})
    assert (await run(console, source, tmp_path)).code == 0
    said = await run(console, source, tmp_path, "--render", "drawn")
    assert said.code == 0, said.err
    assert f"1 picture in {tmp_path}/drawn" in said.err
    assert len(list((tmp_path / "drawn").glob("*.jpg"))) == 1
    assert "picture" not in (await backfill(console, "resume", NAME)).err


@pytest.mark.usefixtures("bench")
async def test_a_source_may_be_a_file_url_and_may_come_by_standard_input(
    console: Console, stub: StubApi, tmp_path: Path
) -> None:
    (tmp_path / "my items").mkdir()
    write_lines(tmp_path / "my items" / "a.jsonl", ROWS[0])
    url = f"{(tmp_path / 'my items' / 'a.jsonl').as_uri()}"
    assert "%20" in url
    said = await run(console, url, tmp_path)
    assert said.code == 0, said.err
    options = (*OPTIONS, "--task", "object_detection", "--output", str(tmp_path / "piped"))
    said = await backfill(
        *(console, "run", "-", *options, "--id", "piped"), stdin=orjson.dumps(ROWS[1])
    )
    assert said.code == 0, said.err
    assert [each["dataUuid"] for each in asked(stub)] == [each["data_uuid"] for each in ROWS[:2]]


async def test_without_an_output_the_results_lie_in_a_folder_named_like_the_backfill(
    bench: Bench,
    console: Console,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options: Any = (*OPTIONS, "--task", "object_detection")
    said = await backfill(console, "run", source.name, *options)
    assert said.code == 0, said.err
    plan = (await standing(bench)).plan
    assert (plan.source.location, plan.output) == (str(source), str(tmp_path / NAME))
    assert sorted(records_in(plan.output)) == list(range(GOOD))
