"""The last files of a backfill: each fails alone, and the end depends on none."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import orjson
import pytest
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from PIL import Image

from tests.console import run_on_terminal
from tests.integration.backfilling import ITEMS, NAME, Backfilling, begin
from tests.integration.ledger_acts import events
from worker.backfill.keys import backfill_key
from worker.backfill.leader import Leader
from worker.backfill.results.finalization import finalize
from worker.backfill.results.output import Output
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.backfill.transitions import cancel_backfill, resume

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.console import Console
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

FILES = (
    "failures.jsonl",
    "coco-results.json",
    "coco-images.json",
    "summary.json",
    "report.html",
)


def with_boxes(number: int) -> dict[str, Any]:
    """Returns what is told of an item: twenty boxes of two classes."""
    box = {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}
    found = [
        {
            "feature_id": f"id-{each % 2}",
            "name": ("disc", "ring")[each % 2],
            "color": "#2040ff",
            "confidence": 0.5 + each / 100,
            "bounding_box": box,
        }
        for each in range(20)
    ]
    return {"frames": {"0": found}, "place": f"line {number + 1}"}


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill of thirty items."""
    return await begin(redis, keys, ledger, tmp_path)


async def work(run: Backfilling, tell: Any = with_boxes) -> BackfillStatus:
    """Leads a backfill to its end."""
    async with run.working(tell=tell):
        ended = await Leader(run.store, NAME, announces=True).work()
    assert isinstance(ended, BackfillStatus)
    return ended


@pytest.mark.parametrize("refused", FILES)
async def test_a_last_file_that_can_t_be_written_keeps_nothing_else_from_its_end(
    night: Backfilling, tmp_path: Path, console: Console, refused: str
) -> None:
    """Resume writes it once its place is free; what is not there is never said to be."""
    blocking = tmp_path / "out" / refused
    (blocking / "something").mkdir(parents=True)
    ended = await work(night)
    assert ended.state is BackfillState.SUCCEEDED
    assert ended.unwritten == [refused]
    told = (await events(night.redis, night.keys.events))[-1]
    assert told["type"] == "backfill.succeeded"
    (warning,) = told["data"]["result"]["warnings"]
    assert (warning["file"], warning["written"]) == (refused, False)
    assert "directory" in warning["message"]
    assert all((tmp_path / "out" / name).is_file() for name in FILES if name != refused)

    shown = console.run("backfill", "status", NAME)
    assert f"{refused}: was not written" in shown.out
    assert f"trainmaster backfill resume {NAME}" in shown.out
    (blocking / "something").rmdir()
    blocking.rmdir()
    said = console.run("backfill", "resume", NAME)
    assert said.code == 0
    assert blocking.is_file()
    assert "was not written" not in said.out
    assert (await night.standing()).unwritten == []


@pytest.mark.parametrize("act", ["resume", "cancel"])
async def test_an_end_that_is_interrupted_comes_by_resume_and_by_cancel(
    night: Backfilling, tmp_path: Path, act: str
) -> None:
    """The leader of old died of one such picture; whoever came next did so too."""
    (tmp_path / "broken.png").write_bytes(b"no picture")
    await night.feed(5)
    for lease in await night.claim():
        await night.settle(lease, data_path=str(tmp_path / "broken.png"))
    await night.let_lease_end()
    if act == "cancel":
        ended = await cancel_backfill(night.store, NAME)
        assert ended is not None
        assert ended.state is BackfillState.CANCELLED
        return
    await resume(night.store, NAME)
    assert (await work(night)).state is BackfillState.SUCCEEDED


async def test_resume_draws_the_pictures_that_a_run_promised_once(
    night: Backfilling, tmp_path: Path, console: Console
) -> None:
    """The run was killed between the end of its backfill and the last picture."""
    Image.new("RGB", (40, 20)).save(tmp_path / "good.png")
    drawn = tmp_path / "drawn"
    await night.store.open(NAME, night.plan, Origin.CONSOLE, "bf-2", render=str(drawn))
    await work(night, lambda number: with_boxes(number) | {"data_path": str(tmp_path / "good.png")})
    drawn.write_text("no folder")
    said = console.run("backfill", "resume", NAME)
    assert (said.code, "not all were drawn" in said.err) == (1, True)
    assert (await night.standing()).render == str(drawn)
    drawn.unlink()
    said = console.run("backfill", "resume", NAME)
    assert said.code == 0
    assert len(list(drawn.glob("*.jpg"))) == ITEMS
    assert f"{ITEMS} pictures in {drawn}" in said.err
    assert (await night.standing()).render == ""
    assert "pictures" not in console.run("backfill", "resume", NAME).err


async def test_how_far_the_pictures_are_is_shown_on_a_terminal_and_in_one_line_elsewhere(
    night: Backfilling, tmp_path: Path, console: Console
) -> None:
    """Drawn in silence, a million of them look like a program that hangs."""
    Image.new("RGB", (40, 20)).save(tmp_path / "good.png")
    drawn = str(tmp_path / "drawn")
    await work(night, lambda number: with_boxes(number) | {"data_path": str(tmp_path / "good.png")})

    async def to_draw() -> None:
        await night.redis.hset(backfill_key(night.keys, NAME), "render", drawn)

    await to_draw()
    said = console.run("backfill", "resume", NAME)
    assert f"drawing {ITEMS} items into {drawn}\n" in said.err
    await to_draw()
    shown = run_on_terminal(console, "backfill", "resume", NAME)
    assert re.search(rf"pictures .*100% {ITEMS} of {ITEMS} drawn", shown.out), shown.out
    assert "drawing" not in shown.out
    await to_draw()
    assert "drawing" not in console.run("backfill", "resume", NAME, "--json").err


async def test_pictures_and_numbers_that_can_t_be_used_are_told_and_left_out(
    night: Backfilling, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 20)).save(tmp_path / "good.png")

    def tell(number: int) -> dict[str, Any]:
        told = with_boxes(number)
        if number == 3:
            told["data_path"] = str(tmp_path / "broken.png")
        if number == 4:
            told["data_path"] = str(tmp_path / "good.png")
        if number == 5:
            told["frames"]["0"][0]["bounding_box"]["x"] = None
        if number == 6:
            told["frames"]["0"][1] |= {"confidence": float("nan")}
        return told

    ended = await work(night, tell)
    assert ended.state is BackfillState.SUCCEEDED
    assert ended.unwritten == []
    assert ended.result is not None
    warnings = {each["file"]: each["message"] for each in ended.result["warnings"]}
    assert set(warnings) == {"coco-images.json", "coco-results.json"}
    assert "1 picture not measured; the first: item 3" in warnings["coco-images.json"]
    # The boxes of an item are one object in this test, so that all twenty lack the number.
    assert "21 predictions left out; the first: item 5" in warnings["coco-results.json"]
    listed = orjson.loads((tmp_path / "out" / "coco-images.json").read_bytes())
    sizes = {each["item"]: (each["width"], each["height"]) for each in listed["images"]}
    assert (len(sizes), sizes[3], sizes[4]) == (ITEMS, (1, 1), (40, 20))
    results = orjson.loads((tmp_path / "out" / "coco-results.json").read_bytes())
    assert len(results) == ITEMS * 20 - 21
    names = {each["id"]: (each["name"], each["feature_id"]) for each in listed["categories"]}
    assert names == {1: ("disc", "id-0"), 2: ("ring", "id-1")}
    scores = {names[each["category_id"]][0]: set[float]() for each in results}
    for each in results:
        scores[names[each["category_id"]][0]].add(round(each["score"] * 100))
    assert scores == {"disc": set(range(50, 70, 2)), "ring": set(range(51, 70, 2))}


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets the system refuse to write more than so many bytes into a file, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_disk_that_fills_up_leaves_no_halves_of_files(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """Small parts fit, COCO results of 600 boxes and the report do not."""
    run = await begin(redis, keys, ledger, tmp_path, part_items=1)
    with largest_file(8_000):
        ended = await work(run)
    assert ended.state is BackfillState.SUCCEEDED
    assert set(ended.unwritten) == {"coco-results.json", "report.html"}
    assert ended.result is not None
    assert {each["message"] for each in ended.result["warnings"]} == {
        "was not written: File too large"
    }
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == ["coco-images.json", "failures.jsonl", "parts", "summary.json"]


async def test_without_matplotlib_the_report_is_missing_and_says_what_to_install(
    night: Backfilling, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("worker.backfill.results.report", "worker.backfill.results.plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    ended = await work(night)
    assert ended.unwritten == ["report.html"]
    assert ended.result is not None
    (warning,) = ended.result["warnings"]
    assert "install trainmaster[report]" in warning["message"]


async def test_a_matplotlib_that_does_not_load_fails_the_report_alone(
    night: Backfilling, tmp_path: Path, console: Console
) -> None:
    package = tmp_path / "shadow" / "matplotlib"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text('raise ImportError("libfreetype.so.6: no such file")')
    (tmp_path / "out" / "report.html" / "something").mkdir(parents=True)
    await work(night)
    shadowed = {"PYTHONPATH": str(tmp_path / "shadow")}
    said = console.run("backfill", "resume", NAME, environment=shadowed)
    assert "report.html: was not written: ImportError: libfreetype.so.6" in said.out


async def test_results_that_were_taken_away_make_no_files_that_lie(
    night: Backfilling, tmp_path: Path, console: Console
) -> None:
    """The end tells what Redis has counted."""
    blocking = tmp_path / "out" / "failures.jsonl"
    (blocking / "something").mkdir(parents=True)
    await work(night)
    (tmp_path / "out" / "parts" / "part-000001.jsonl").unlink()
    before = (tmp_path / "out" / "summary.json").read_bytes()
    (blocking / "something").rmdir()
    blocking.rmdir()
    said = console.run("backfill", "resume", NAME)
    assert f"holds 23 of the {ITEMS} results" in said.out
    assert not blocking.exists()
    assert (tmp_path / "out" / "summary.json").read_bytes() == before
    assert (await night.standing()).succeeded == ITEMS


async def test_results_that_lie_there_twice_make_no_files_that_lie(night: Backfilling) -> None:
    """Someone copied a part, or restored a folder over another one."""
    output = Output(night.plan.output)
    records = [
        {"item": number, "state": "succeeded", "frames": {}, "attempts": 1, "seconds": 0.1}
        for number in range(2)
    ]
    for name in ("part-000000.jsonl", "part-000001.jsonl"):
        with output.write("parts", name) as file:
            file.writelines(orjson.dumps(record) + b"\n" for record in records)
    warnings = finalize(replace(await night.standing(), succeeded=2), output, 1.0)
    assert {(each.file, each.written) for each in warnings} == {(name, False) for name in FILES}
    assert all("holds 4 of the 2 results" in each.message for each in warnings)


async def test_failures_that_were_not_written_are_written_before_they_run_again(
    night: Backfilling, tmp_path: Path, console: Console
) -> None:
    (tmp_path / "out" / "failures.jsonl" / "something").mkdir(parents=True)
    async with night.working(failing="not_found"):
        await Leader(night.store, NAME, announces=True).work()
    refused = console.run("backfill", "retry-failed", NAME)
    assert refused.code == 1
    assert "failures.jsonl: was not written" in refused.err + refused.out
    assert await night.store.look(f"{NAME}.retry") is None


def _break_off(output: Output) -> None:
    with output.write("parts", "part-0.jsonl") as file:
        file.write(b"half of it")
        raise ValueError("a record")


@pytest.mark.parametrize("kind", ["disk", "store"])
def test_a_file_that_was_begun_and_not_ended_is_not_there(tmp_path: Path, kind: str) -> None:
    """Whoever lists the folder would take the half of a part for a part."""
    output = Output(str(tmp_path / "out") if kind == "disk" else f"memory://{tmp_path.name}/out")
    with pytest.raises(ValueError, match="a record"):
        _break_off(output)
    filesystem, root = fsspec.url_to_fs(output.path("parts"))
    assert not filesystem.exists(root) or filesystem.ls(root) == []


class PickyFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A store that refuses one name, with an error that is not the system's."""

    protocol = "picky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    refused = "coco-results.json"

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb" and path.endswith(self.refused):
            raise RuntimeError("AccessDenied: the bucket's policy forbids this name")
        return super()._open(path, mode, **options)


async def test_a_store_that_refuses_one_name_keeps_the_others(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    fsspec.register_implementation("picky", PickyFileSystem, clobber=True)
    run = await begin(redis, keys, ledger, tmp_path, output="picky://out")
    ended = await work(run)
    assert ended.state is BackfillState.SUCCEEDED
    assert ended.unwritten == ["coco-results.json"]
    assert ended.result is not None
    assert "AccessDenied" in ended.result["warnings"][0]["message"]
    there = {path.rpartition("/")[2] for path in PickyFileSystem.store}
    assert there >= {"failures.jsonl", "coco-images.json", "summary.json", "report.html"}


class CrowdedFile(MemoryFile):  # type: ignore[misc]
    """Finds its disk full once, and room again at once."""

    is_full = True

    def write(self, content: Any) -> int:
        if self.is_full and self.tell() > 4_000:
            self.is_full = False
            # What a full disk takes may be the half of it.
            super().write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(super().write(content))


class CrowdedFileSystem(MemoryFileSystem):  # type: ignore[misc]
    """A store whose disk is full for a moment, just when COCO results are written."""

    protocol = "crowded"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb" and path.endswith("coco-results.json"):
            return CrowdedFile(self, path)
        return super()._open(path, mode, **options)


async def test_a_file_that_lacks_what_could_not_be_written_once_is_given_up(
    redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    """Whatever comes behind half a result makes no JSON."""
    fsspec.register_implementation("crowded", CrowdedFileSystem, clobber=True)
    run = await begin(redis, keys, ledger, tmp_path, output="crowded://out")
    ended = await work(run)
    assert ended.state is BackfillState.SUCCEEDED
    assert ended.unwritten == ["coco-results.json"]
    assert ended.result is not None
    (warning,) = ended.result["warnings"]
    assert warning["message"] == "was not written: No space left on device"
    there = {path.rpartition("/")[2] for path in CrowdedFileSystem.store}
    assert "coco-results.json" not in there
