"""Backfills of generated pictures with real processes: worker, sandbox, console script."""

from __future__ import annotations

import contextlib
import io
import signal
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sandbox.learning.generator import generate
from tests.console import Console, finish, running_worker, wait_until
from tests.sandbox_process import SandboxProcess, running_sandbox
from worker.backfill.output import Output
from worker.backfill.parts import read_records
from worker.demo.scores import Scored, box_map50
from worker.producer import Producer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.embedded import EmbeddedRedis

SEEDS = (101, 102)
PICTURES = 240
# Guessed boxes score next to nothing.
LEAST_SCORE = 0.3


@dataclass(frozen=True)
class Studio:
    """A trained detector, a worker that asks it, and pictures whose truth is known.

    Attributes:
        truth: what each picture shows, by path.
        categories: feature hash to name, of the model's ontology and of the pictures'.
    """

    console: Console
    sandbox: SandboxProcess
    folder: Path
    asked: dict[str, str]
    truth: dict[str, list[dict[str, Any]]]
    categories: dict[str, str]

    def options(self) -> list[str]:
        """Options of `backfill run` that name the model."""
        return [
            *("--project", self.asked["project_uuid"]),
            *("--attachment", self.asked["project_model_uuid"]),
            *("--training", self.asked["training_uuid"]),
            *("--task", "object_detection"),
            *("--conf-thresh", "0.05"),
        ]

    def score(self, records: list[dict[str, Any]]) -> float:
        """Returns the mean average precision of records against the truth, 0 to 1."""
        scored = [Scored(self.truth[each["data_path"]], each["frames"]) for each in records]
        return box_map50(scored, self.categories)

    def states(self, backfill_id: str) -> Counter[str]:
        """Returns how often each event of a backfill was published."""
        events = self.console.run("events", "--type", "backfill", "--json").lines
        return Counter(
            event["type"].partition(".")[2] for event in events if event["subject"] == backfill_id
        )

    def status(self, backfill_id: str) -> dict[str, Any]:
        (told,) = self.console.run("backfill", "status", backfill_id, "--json").lines
        return told


@pytest.fixture(scope="module")
def studio(
    redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Studio]:
    folder = tmp_path_factory.mktemp("studio")
    truth: dict[str, list[dict[str, Any]]] = {}
    categories: dict[str, str] = {}
    for seed in SEEDS:
        shapes = generate(folder / "pictures" / str(seed), seed)[0]
        categories |= {each.feature_hash: each.name for each in shapes.ontology}
        for item in shapes.items:
            if item.split == "train" and item.frames == 1:
                truth[str(item.file)] = orjson.loads(orjson.dumps(item.truth))["frames"]
    assert len(truth) == PICTURES
    with running_sandbox(folder / "sandbox") as sandbox:
        model = sandbox.create_model()
        labels = [item["label_uuid"] for item in sandbox.items()]
        training = sandbox.create_training(model, epochs=10, labelsUuids=labels)
        assert sandbox.ended(model, training)["status"] == "done"
        boxes = sandbox.features("fasterRcnn")
        categories = {key: name for key, name in categories.items() if name in boxes} | {
            feature_hash: name for name, feature_hash in boxes.items()
        }
        console = Console(
            redis_server.url,
            "studio",
            ENCORD_DOMAIN=sandbox.told["domain"],
            ENCORD_SSH_KEY_FILE=sandbox.told["key_file"],
            TRAINMASTER_DATA_ROOTS=str(folder),
            TRAINMASTER_RESULT_STORE=str(folder / "store"),
            TRAINMASTER_LEASE_SECONDS="2",
            TRAINMASTER_CONSUMER_IDLE_SECONDS="2",
            TRAINMASTER_LOG_FORMAT="json",
            TRAINMASTER_BACKFILL_WINDOW="40",
            TRAINMASTER_BACKFILL_PART_ITEMS="50",
        )
        asked = {
            "project_uuid": sandbox.project()["project_uuid"],
            "project_model_uuid": sandbox.attach(model),
            "training_uuid": training,
        }
        yield Studio(console, sandbox, folder, asked, truth, categories)


def manifest(studio: Studio, name: str, *more: bytes) -> Path:
    """Writes a manifest of all pictures, by paths beside it, and of further lines."""
    path = studio.folder / name
    lines = [
        orjson.dumps({"file": str(Path(each).relative_to(studio.folder))}) for each in studio.truth
    ]
    path.write_bytes(b"\n".join([*lines, *more]) + b"\n")
    return path


def test_a_run_predicts_each_picture_once_and_names_what_failed(studio: Studio) -> None:
    """One file that is no picture, one that is missing and one bad row fail, and nothing else."""
    (studio.folder / "broken.png").write_bytes(b"no picture")
    bad = [b'{"file": "broken.png"}', b'{"file": "missing.png"}', b"{nonsense"]
    source = manifest(studio, "items.jsonl", *bad)
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
        assert len(list(pictures.iterdir())) == PICTURES
        with Image.open(next(pictures.iterdir())) as drawn:
            assert min(drawn.size) >= 320

        again = studio.console.run("backfill", "retry-failed", "day", "--json")
        assert again.code == 1
        (told,) = again.lines
        assert (told["id"], told["failed"]) == ("day.retry", 3)
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
    source = manifest(studio, "queued.jsonl")
    data = {
        **studio.asked,
        "task": "object_detection",
        "source": str(source),
        "columns": {"data_path": "file"},
        "conf_thresh": 0.05,
    }
    with Producer(studio.console.environment["TRAINMASTER_REDIS_URL"], "studio") as producer:
        producer.submit("backfill", data, id="queued", replyto="owner")
    log = studio.folder / "killed.log"
    for least in (30, 120):
        process = studio.console.start("worker")
        wait_until(partial(has_ended, studio, "queued", least), f"{least} items that ended")
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


def has_ended(studio: Studio, backfill_id: str, least: int) -> bool:
    said = studio.console.run("backfill", "status", backfill_id, "--json")
    return said.code == 0 and said.lines[0]["succeeded"] >= least


def test_a_reader_that_is_killed_is_followed_by_resume(studio: Studio) -> None:
    arguments = [
        *("backfill", "run", str(studio.folder / "pictures" / "101" / "shapes" / "train")),
        *("--id", "folder", "--window", "20", "--part-items", "30"),
        *("--output", str(studio.folder / "folder")),
        *studio.options(),
    ]
    with running_worker(studio.console, studio.folder / "resumed.log"):
        reader = studio.console.start(*arguments)
        wait_until(lambda: has_ended(studio, "folder", 20), "twenty items that ended")
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
    source = manifest(studio, "cancelled.jsonl")
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


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("missing.jsonl", "there is no such file or folder"),
        ("items.txt", "its name does not tell whether it is JSON lines, CSV or Parquet"),
        ("items.csv", "no column says which item it is; its columns are file, size"),
    ],
)
def test_a_source_that_is_none_is_said_in_a_line(studio: Studio, source: str, said: str) -> None:
    path = studio.folder / source
    if "missing" not in source:
        path.write_text("file,size\na.png,1\n")
    told = studio.console.run(
        *("backfill", "run", str(path), *studio.options()),
        *("--id", f"bad-{source}", "--output", str(studio.folder / "bad")),
    )
    assert told.code == 1
    assert said in told.out + told.err


def test_a_queued_source_outside_the_data_roots_is_refused(studio: Studio, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text("{}")
    data = {**studio.asked, "task": "object_detection", "source": str(secret)}
    with Producer(studio.console.environment["TRAINMASTER_REDIS_URL"], "studio") as producer:
        producer.submit("backfill", data, id="outside")
    with running_worker(studio.console, studio.folder / "outside.log"):
        wait_until(lambda: studio.states("outside")["failed"] == 1, "its end")
    (letter,) = studio.console.run("dead-letters", "show", "outside", "--json").lines
    assert "TRAINMASTER_DATA_ROOTS" in str(letter)
