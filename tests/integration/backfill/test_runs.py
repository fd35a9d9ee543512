"""Backfills of generated pictures with real processes: worker, sandbox, console script."""

from __future__ import annotations

import contextlib
import io
import signal
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from PIL import Image
from pycocotools.coco import COCO
from redis import Redis

from tests.console import finish, running_worker, wait_until
from tests.gateway_process import serving_gateway
from tests.integration.backfill.studio import PICTURES_A_SEED
from trainmaster_client import Client
from worker.backfill.handler import SLICE_SECONDS
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.backfill.studio import Studio

PICTURES = 2 * PICTURES_A_SEED
# Guessed boxes score next to nothing.
LEAST_SCORE = 0.3
# Longer than a worker takes to start, shorter than a slice.
DEADLINE_SECONDS = 8


def test_a_run_predicts_each_picture_once_and_names_what_failed(studio: Studio) -> None:
    """One file that is no picture, one that is missing and one bad row fail, and nothing else."""
    (studio.folder / "broken.png").write_bytes(b"no picture")
    bad = [b'{"file": "broken.png"}', b'{"file": "missing.png"}', b"{nonsense"]
    source = studio.manifest("items.jsonl", *bad)
    out, pictures = studio.folder / "out", studio.folder / "drawn"
    with running_worker(studio.console, studio.folder / "worker.log"):
        said = studio.console.run(
            *("backfill", "run", str(source), "--id", "day", "--map", "data_path=file"),
            *studio.options(),
            *("--output", str(out), "--part-items", "100", "--render", str(pictures)),
        )
        assert said.code == 1, "items failed"
        assert "3: " in said.out
        assert "backfill resume day" in said.err

        records = list(read_records(Output(str(out))))
        assert sorted(record["item"] for record in records) == list(range(PICTURES + 3))
        right = [record for record in records if record["state"] == "succeeded"]
        assert studio.score(right) > LEAST_SCORE
        check_files(studio, out, right)
        assert len(list(pictures.glob("*.jpg"))) == PICTURES
        with Image.open(next(pictures.glob("*.jpg"))) as drawn:
            assert min(drawn.size) >= 320

        again = studio.console.run("backfill", "retry-failed", "day", "--json")
        assert again.code == 1
        (told,) = again.lines
        assert (told["id"], told["failed"]) == ("day.retry", 3)
    with Redis.from_url(studio.console.environment["TRAINMASTER_REDIS_URL"]) as redis:
        # What a prediction was sent with is kept, but not for each of a million items.
        assert list(redis.scan_iter("{studio}:sent:*")) == []
    assert studio.states("day") == {
        "accepted": 1,
        "succeeded": 1,
        "progressed": studio.states("day")["progressed"],
    }


def check_files(studio: Studio, out: Path, right: list[dict[str, Any]]) -> None:
    failures = [orjson.loads(line) for line in (out / "failures.jsonl").read_bytes().splitlines()]
    codes = sorted(failure["error"]["code"] for failure in failures)
    assert codes == ["invalid_arguments", "invalid_input", "invalid_item"]
    summary = orjson.loads((out / "summary.json").read_bytes())
    assert (summary["succeeded"], summary["failed"]) == (PICTURES, 3)
    found = sum(len(items) for each in right for items in each["frames"].values())
    assert summary["predictions"] == found == sum(summary["classes"].values())
    assert found == sum(each["count"] for each in summary["confidences"])
    assert set(summary["classes"]) <= set(studio.categories.values())
    page = (out / "report.html").read_text()
    assert page.count("<svg") >= 3
    told = orjson.loads((out / "coco-images.json").read_bytes())
    assert len(told["images"]) == PICTURES
    with Image.open(told["images"][0]["file_name"]) as picture:
        assert picture.size == (told["images"][0]["width"], told["images"][0]["height"])
    ground = COCO()
    ground.dataset = {
        "images": told["images"],
        "categories": told["categories"],
        "annotations": [],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground.createIndex()
        assert len(ground.loadRes(str(out / "coco-results.json")).anns) == found


def test_a_worker_that_is_killed_leaves_a_queued_backfill_to_the_next(studio: Studio) -> None:
    source = studio.manifest("queued.jsonl")
    with Client(studio.redis_url, namespace="studio") as producer:
        producer.submit("backfill", studio.command_data(source), id="queued", replyto="owner")
    log = studio.folder / "killed.log"
    for least in (30, 120):
        process = studio.console.start("worker")
        wait_until(partial(studio.has_ended, "queued", least), f"{least} items that ended")
        process.send_signal(signal.SIGKILL)
        finish(process)
    with running_worker(studio.console, log):
        said = studio.console.run("backfill", "status", "queued", "--watch", "--json")
    (told,) = said.lines
    assert told["state"] == "succeeded"
    assert (told["succeeded"], told["failed"], told["open"]) == (PICTURES, 0, 0)
    output = told["result"]["output"]
    assert output == str(studio.folder / "store" / "backfills" / "backfill-queued")
    records = list(read_records(Output(output)))
    assert sorted(record["item"] for record in records) == list(range(PICTURES))
    assert studio.score(records) > LEAST_SCORE
    states = studio.states("queued")
    assert (states["accepted"], states["succeeded"], states["failed"]) == (1, 1, 0)
    replies = studio.console.run("events", "--replyto", "owner", "--json").lines
    assert {event["type"] for event in replies} >= {"backfill.accepted", "backfill.succeeded"}


def test_a_reader_that_is_killed_is_followed_by_resume(studio: Studio) -> None:
    arguments = [
        *("backfill", "run", str(studio.folder / "pictures" / "101" / "shapes" / "train")),
        *("--id", "folder", "--window", "20", "--part-items", "30"),
        *("--output", str(studio.folder / "folder")),
        *studio.options(),
    ]
    with running_worker(studio.console, studio.folder / "resumed.log"):
        reader = studio.console.start(*arguments)
        wait_until(lambda: studio.has_ended("folder", 20), "twenty items that ended")
        reader.send_signal(signal.SIGKILL)
        finish(reader)
        assert studio.status("folder")["state"] == "running"
        paused = studio.console.run("backfill", "pause", "folder", "--json")
        assert paused.lines[0]["state"] == "paused"
        (told,) = studio.console.run("backfill", "resume", "folder", "--json").lines
    assert told["state"] == "succeeded"
    records = list(read_records(Output(str(studio.folder / "folder"))))
    assert sorted(record["item"] for record in records) == list(range(told["read"]))
    assert len({record["data_path"] for record in records}) == len(records) >= PICTURES // 2


def test_a_cancelled_backfill_ends_and_keeps_what_it_has(studio: Studio) -> None:
    """Without a worker nothing runs, so that all of the window is dropped."""
    source = studio.manifest("cancelled.jsonl")
    reader = studio.console.start(
        *("backfill", "run", str(source), "--id", "dropped", "--map", "data_path=file"),
        *("--window", "10", "--output", str(studio.folder / "dropped")),
        *studio.options(),
    )
    wait_until(
        lambda: (
            (said := studio.console.run("backfill", "status", "dropped", "--json")).code == 0
            and said.lines[0]["open"] == 10
        ),
        "a full window",
    )
    for _ in range(2):
        assert studio.console.run("backfill", "cancel", "dropped").code == 0
    assert finish(reader).code == 1
    told = studio.status("dropped")
    assert (told["state"], told["dropped"], told["read"]) == ("cancelled", 10, 10)
    assert studio.states("dropped")["cancelled"] == 1


def test_a_queued_backfill_that_is_cancelled_ends_once_all_that_has_ended_is_written(
    studio: Studio,
) -> None:
    """Cancelled while no worker runs, so that only the next one can write what there is."""
    source = studio.manifest("stopped.jsonl")
    with Client(studio.redis_url, namespace="studio") as producer:
        producer.submit("backfill", studio.command_data(source), id="stopped")
    process = studio.console.start("worker")
    wait_until(partial(studio.has_ended, "stopped", 30), "thirty items that ended")
    process.send_signal(signal.SIGKILL)
    finish(process)
    for _ in range(2):
        said = studio.console.run("cancel", "stopped", "--json")
        assert (said.code, said.lines[0]["verdict"]) == (0, "cancelling")
    assert studio.states("stopped")["cancelled"] == 0
    with running_worker(studio.console, studio.folder / "stopped.log"):
        wait_until(lambda: studio.states("stopped")["cancelled"] == 1, "its end")
    told = studio.status("stopped")
    assert told["state"] == "cancelled"
    assert told["succeeded"] + told["dropped"] == told["read"]
    records = list(read_records(Output(told["plan"]["output"])))
    numbers = [record["item"] for record in records]
    assert len(set(numbers)) == len(numbers) == told["succeeded"] >= 30
    again = studio.console.run("cancel", "stopped", "--json")
    assert again.lines[0]["verdict"] == "already_ended"
    states = studio.states("stopped")
    assert (states["cancelled"], states["succeeded"], states["failed"]) == (1, 0, 0)


def test_a_queued_backfill_whose_deadline_passes_is_paused_and_led_on_by_resume(
    studio: Studio,
) -> None:
    """The API is slow, so that the deadline passes while a slice of leading lasts."""
    source = studio.manifest("late.jsonl")
    slow = {"operation": "predict_object_detection", "effect": "latency", "seconds": 4}
    studio.sandbox.faults(slow)
    deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
    with Client(studio.redis_url, namespace="studio") as producer:
        data = studio.command_data(source)
        producer.submit("backfill", data, id="late", deadline=deadline.isoformat())
    try:
        with running_worker(studio.console, studio.folder / "late.log"):
            wait_until(lambda: studio.states("late")["failed"] == 1, "its end")
            told = studio.status("late")
            studio.sandbox.faults()
            said = studio.console.run("backfill", "resume", "late", "--json")
    finally:
        studio.sandbox.faults()
    assert told["state"] == "paused"
    assert told["reason"] == "its command failed: deadline_exceeded"
    assert 0 < told["read"] < PICTURES
    events = studio.console.run("events", "--id", "late", "--type", "failed", "--json").lines
    ended = datetime.fromisoformat(events[0]["time"])
    assert ended - deadline < timedelta(seconds=SLICE_SECONDS / 2), "not after a whole slice"
    (resumed,) = said.lines
    assert (resumed["state"], resumed["succeeded"]) == ("succeeded", PICTURES)
    records = list(read_records(Output(resumed["plan"]["output"])))
    assert sorted(record["item"] for record in records) == list(range(PICTURES))
    states = studio.states("late")
    assert (states["failed"], states["succeeded"], states["cancelled"]) == (1, 0, 0)


def test_a_manifest_sent_over_http_is_predicted_and_its_results_come_back(studio: Studio) -> None:
    """With absolute paths, for it lies elsewhere than the pictures; what fails is run again."""
    pictures = list(studio.truth)[:6]
    manifest = "\n".join(["file", *pictures, str(studio.folder / "missing.png")]).encode()
    query = {**studio.asked, "task": "object_detection", "id": "over-http", "map": "data_path=file"}
    with (
        running_worker(studio.console, studio.folder / "worker.log"),
        serving_gateway(
            redis_url=studio.redis_url,
            namespace=studio.console.namespace,
            gateway_folder=studio.folder / "gateway",
            gateway_uploads=str(studio.folder / "uploads"),
        ) as gateway,
    ):
        path = "/v1/backfills"
        begun = gateway.http.post(
            path, params=query, content=manifest, headers={"content-type": "text/csv"}
        )
        assert begun.status_code == 202, begun.text

        def has_ended(backfill_id: str) -> bool:
            return bool(gateway.http.get(f"{path}/{backfill_id}").json().get("ended_at"))

        wait_until(lambda: has_ended("over-http"), "the end of the backfill")
        told = gateway.http.get(f"{path}/over-http").json()
        assert (told["state"], told["succeeded"], told["failed"]) == ("succeeded", 6, 1)
        files = gateway.http.get(f"{path}/over-http/results").json()["items"]
        parts = [each for each in files if each["name"].startswith("parts/")]
        lines = [
            orjson.loads(line)
            for part in parts
            for line in gateway.http.get(part["location"]).iter_lines()
        ]
        assert sorted(line["item"] for line in lines) == list(range(7))
        assert {line.get("data_path") for line in lines} >= set(pictures)

        assert gateway.http.post(f"{path}/over-http/retry-failed").status_code == 202
        wait_until(lambda: has_ended("over-http.retry"), "the end of the second run")
        again = gateway.http.get(f"{path}/over-http.retry").json()
        assert (again["succeeded"], again["failed"]) == (0, 1)
