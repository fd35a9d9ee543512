"""The figures of the benchmarks: what the stub answers, what is counted, how rounds are joined."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from benchmarks.contenders.registry import CEILINGS, OURS, contenders
from benchmarks.plan import Plan
from benchmarks.processes import Cores
from benchmarks.report.page import NOTHING, Page
from benchmarks.results import Results
from benchmarks.statistics import Summary, percentile, ratio
from benchmarks.stub import Exchange, prediction, request_size, subject
from benchmarks.work import (
    PATH,
    image_begin,
    messages,
    request_body,
    result_event,
)
from schemas.api import DetectionFrames
from schemas.parsing import parse_command
from schemas.predictions import PredictObjectDetectionData
from tests.benchmark_tables import markdown_of
from worker.encord.api.client import MlModelsApi
from worker.http.response import Response
from worker.http.timeouts import Timeouts

if TYPE_CHECKING:
    from pathlib import Path


class Sent:
    """Takes what the client would send, and answers as the stub does."""

    timeouts = Timeouts()

    def __init__(self) -> None:
        self.path = ""
        self.body: bytes | None = None

    async def send(self, method: str, path: str, **options: Any) -> Response:
        assert method == "POST"
        self.path, self.body = path, options["body"]
        return Response(200, [], orjson.dumps(prediction()))


def test_the_stubs_reply_is_one_that_the_api_could_give_and_about_2_kb() -> None:
    reply = orjson.dumps(prediction())
    found = DetectionFrames.model_validate_json(reply).result[0]
    assert len(found) == 6
    assert 1_500 < len(reply) < 2_500


async def test_every_contender_sends_the_body_that_the_worker_sends() -> None:
    (message,) = messages("run", 7, 1)
    command = parse_command(orjson.dumps({"type": "predict", **message})).command
    data = command.data
    assert isinstance(data, PredictObjectDetectionData)
    sent = Sent()
    await MlModelsApi(sent).predict_object_detection(
        project_uuid=data.project_uuid,
        project_model_uuid=data.project_model_uuid,
        training_uuid=data.training_uuid,
        data_base64=data.data_base64,
        conf_thresh=data.conf_thresh,
        iou_thresh=data.iou_thresh,
        allocation_enabled=data.allocation_enabled,
    )
    assert sent.path == PATH
    assert sent.body == request_body(message)
    assert 990 < len(request_body(message)) < 1_010


def test_an_image_begins_with_the_commands_id() -> None:
    (message,) = messages("run", 7, 1)
    assert message["data"]["data_base64"].startswith(image_begin("run-7"))
    assert base64.b64decode(message["data"]["data_base64"])[:36].decode().strip() == "run-7"
    assert subject(request_body(message)) == image_begin("run-7").encode()


def test_a_result_event_is_about_as_large_as_the_workers() -> None:
    (message,) = messages("run", 7, 1)
    event = result_event(message, prediction()["result"])
    assert 1_700 < len(event) < 2_300
    assert orjson.loads(event)["subject"] == "run-7"


class Counted:
    """Takes whole requests."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0

    def answer(self, _transport: object, request: bytes) -> None:
        self.requests.append(request)


@pytest.mark.parametrize("piece", [1, 7, 64, 100_000])
def test_the_stub_finds_requests_however_they_are_cut(piece: int) -> None:
    first = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"
    second = b"GET /calls HTTP/1.1\r\nhost: a\r\n\r\n"
    counted = Counted()
    exchange = Exchange(counted)  # type: ignore[arg-type]
    exchange._transport = None  # type: ignore[assignment]
    stream = first + second + first
    for start in range(0, len(stream), piece):
        exchange.data_received(stream[start : start + piece])
    assert counted.requests == [first, second, first]
    assert counted.connections == 1


def test_a_request_is_not_whole_before_its_head_is() -> None:
    assert request_size(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n") == 0
    assert request_size(b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\n") == 43


def test_a_summary_is_the_middle_round_with_the_ends_beside_it() -> None:
    assert Summary.of([3.0, 1.0, 2.0]) == Summary(2.0, 1.0, 3.0)
    assert Summary.of([4.0, 2.0]).median == 3.0
    assert Summary.of([1.0, 2.0, 3.0]).spread == 1.0


def test_a_ratio_is_taken_within_a_round_so_that_slow_minutes_change_none() -> None:
    ours = {0: 3_000.0, 1: 1_500.0, 2: 3_300.0}
    theirs = {0: 1_000.0, 1: 500.0, 2: 1_000.0}
    assert ratio(ours, theirs) == Summary(3.0, 3.0, 3.3)


def test_a_ratio_needs_a_common_round() -> None:
    assert ratio({0: 1.0}, {1: 1.0}) is None
    assert ratio({0: 1.0, 1: 9.0}, {1: 3.0}) == Summary(3.0, 3.0, 3.0)


def test_a_percentile_is_always_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 0.50) == 50.0
    assert percentile(values, 0.99) == 99.0
    assert percentile([5.0, 1.0], 0.99) == 5.0
    assert percentile([5.0], 0.50) == 5.0


RECORD = {
    "latency_ms": 50,
    "commands": 1_000,
    "seconds": 0.5,
    "redis_cpu_seconds": 0.1,
    "stub_cpu_seconds": 0.05,
    "memory_bytes": 100_000_000,
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Two rounds of two contenders."""
    rates = {"trainmaster": (2_000.0, 2_200.0), "bare-transport": (2_500.0, 2_200.0)}
    records = [
        {
            **RECORD,
            "round": number,
            "contender": name,
            "per_second": rates[name][number],
            "cpu_seconds_per_1000": 0.4 if name == "trainmaster" else 0.3,
        }
        for number in (0, 1)
        for name in rates
    ]
    found = Results(tmp_path / "benchmarks" / "results.json")
    plan = Plan((OURS, *CEILINGS), Cores(0, 1), short=True, long=False, rounds=2, seconds=1)
    found.put("throughput", plan, records)
    return found


def test_the_page_shows_medians_ratios_and_cpu_seconds(results: Results, tmp_path: Path) -> None:
    page = Page(results, (OURS, *CEILINGS), tmp_path)
    text = page.renew(
        "before\n<!-- from the benchmarks: throughput -->\nold\n<!-- end: throughput -->\nafter"
    )
    assert text.startswith("before\n")
    assert text.endswith("\nafter")
    assert "old" not in text
    assert "| trainmaster | 2,100 | 2,000 – 2,200 |  | 0.400 |  | 0.100 | 100 MB |" in text
    assert "| 2,350 | 2,200 – 2,500 | 0.90 × (0.80 – 1.00) | 0.300 | 1.33 × | 0.100 |" in text
    assert (tmp_path / "benchmarks" / "throughput.svg").read_text().startswith("<?xml")


def test_the_tables_as_json_say_what_the_page_says(results: Results, tmp_path: Path) -> None:
    page = Page(results, (OURS, *CEILINGS), tmp_path)
    written = orjson.loads(page.json())
    (tmp_path / "benchmarks").mkdir(exist_ok=True)
    text = page.renew(
        "".join(f"<!-- from the benchmarks: {name} -->\n<!-- end: {name} -->\n" for name in written)
    )
    assert set(written) == {"does", "machine", "settings", "throughput"}
    for name, table in page.tables().items():
        assert markdown_of(table, written[name]["rows"]) in text
    (ours,) = [row for row in written["throughput"]["rows"] if row["contender"] == "trainmaster"]
    assert ours["per_second"] == {"median": 2_100.0, "lowest": 2_000.0, "highest": 2_200.0}
    assert ours["times_the_rate"] is None
    assert written["throughput"]["short"] is True


@pytest.mark.parametrize(
    ("measured", "told"),
    [
        (("trainmaster", "celery-threads"), ("Celery, threads",)),
        (
            ("trainmaster", "celery-threads", "bullmq", "bee-queue"),
            ("Celery, threads", "BullMQ, Node", "Bee-Queue, Node"),
        ),
    ],
)
def test_the_best_of_each_language_is_told_whether_node_took_part_or_not(
    measured: tuple[str, ...], told: tuple[str, ...], tmp_path: Path
) -> None:
    results = Results(tmp_path / "benchmarks" / "results.json")
    # Of Node one is faster, the other takes less.
    figures = {
        "celery-threads": (400.0, 2.0),
        "bullmq": (4_000.0, 0.2),
        "bee-queue": (3_000.0, 0.1),
    }
    results.runs["throughput"] = {
        "records": [
            {"round": 0, "contender": name, "per_second": rate, "cpu_seconds_per_1000": cpu}
            for name in measured
            for rate, cpu in [figures.get(name, (2_000.0, 0.4))]
        ]
    }
    page = Page(results, contenders(), tmp_path)
    text = page.renew("<!-- from the benchmarks: summary -->\n<!-- end: summary -->")
    assert re.findall("the rate of (.+), at", text) == list(told)


def test_a_page_that_is_rendered_twice_stays_the_same(results: Results, tmp_path: Path) -> None:
    page = Page(results, (OURS, *CEILINGS), tmp_path)
    once = page.renew(
        "<!-- from the benchmarks: throughput -->\n<!-- end: throughput -->\n"
        "<!-- from the benchmarks: machine -->\n<!-- end: machine -->"
    )
    picture = (tmp_path / "benchmarks" / "throughput.svg").read_bytes()
    assert page.renew(once) == once
    assert (tmp_path / "benchmarks" / "throughput.svg").read_bytes() == picture


def test_the_page_says_what_was_not_measured(results: Results, tmp_path: Path) -> None:
    page = Page(results, (OURS, *CEILINGS), tmp_path)
    text = page.renew("<!-- from the benchmarks: latency -->\n<!-- end: latency -->")
    assert NOTHING in text


def test_raw_results_are_kept_with_what_they_depend_on(results: Results, tmp_path: Path) -> None:
    kept = Results(tmp_path / "benchmarks" / "results.json").runs["throughput"]
    assert kept["records"] == results.records("throughput")
    assert kept["short"] is True
    assert kept["machine"]["packages"]["celery"]
