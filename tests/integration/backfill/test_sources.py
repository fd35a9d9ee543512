"""Sources through the whole command: standard input, parts behind a URL, folders of all kinds."""

from __future__ import annotations

import gzip
import shutil
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.console import running_worker
from tests.web_server import serving
from worker.backfill.results.output import Output
from worker.backfill.results.parts import read_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.console import Said
    from tests.integration.backfill.studio import Studio

PART = 8
PARTS = ("part-0.jsonl", "part-1.jsonl", "part-2.jsonl")


@pytest.fixture(scope="module", autouse=True)
def worker(studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with running_worker(studio.console, tmp_path_factory.mktemp("worker") / "worker.log"):
        yield


class Breaking(SimpleHTTPRequestHandler):
    """Serves a folder; of one file no more than the half, from the second request on.

    Attributes:
        asked: how often each path was asked for.
        mended: whether the file is served whole again.
    """

    protocol_version = "HTTP/1.1"
    asked: ClassVar[dict[str, int]] = {}
    mended: ClassVar[list[bool]] = []

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
        pass

    def do_GET(self) -> None:
        self.asked[self.path] = self.asked.get(self.path, 0) + 1
        if not self.path.endswith(PARTS[1]) or self.asked[self.path] == 1 or self.mended:
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True


def run(studio: Studio, source: str, name: str, *more: str, stdin: bytes = b"") -> Said:
    return studio.console.run(
        *("backfill", "run", source, "--id", name, "--output", str(studio.folder / f"out-{name}")),
        *studio.options(),
        *more,
        stdin=stdin,
    )


def paths_in(studio: Studio, name: str) -> list[str]:
    records = read_records(Output(str(studio.folder / f"out-{name}")))
    return sorted(record["data_path"] for record in records)


def test_a_source_that_breaks_in_the_middle_pauses_with_the_reason_and_resume_finishes_it(
    studio: Studio, tmp_path: Path
) -> None:
    pictures = sorted(studio.truth)[: 3 * PART]
    for number, part in enumerate(PARTS):
        rows = pictures[number * PART : (number + 1) * PART]
        (tmp_path / part).write_bytes(
            b"".join(orjson.dumps({"data_path": path}) + b"\n" for path in rows)
        )
    broken = (tmp_path / PARTS[1]).stat().st_size
    mended: list[bool] = []
    handler = type("Told", (Breaking,), {"asked": {}, "mended": mended})
    with serving(partial(handler, directory=str(tmp_path))) as server:
        url = f"{server}/"
        said = run(studio, url, "breaking", "--window", str(PART), "--format", "jsonl", "--json")
        assert said.code == 1
        (told,) = said.lines
        assert told["state"] == "paused"
        assert (
            f"{url}{PARTS[1]}: can't be read at the moment: the server ended it" in told["reason"]
        )
        # Of the broken part too, what came whole.
        came = PART + (tmp_path / PARTS[1]).read_bytes()[: broken // 2].count(b"\n")
        assert came > PART
        assert told["succeeded"] == came
        assert paths_in(studio, "breaking") == pictures[:came]
        mended.append(True)
        (ended,) = studio.console.run("backfill", "resume", "breaking", "--json").lines
    assert (ended["state"], ended["succeeded"], ended["failed"]) == ("succeeded", 3 * PART, 0)
    assert paths_in(studio, "breaking") == pictures


@pytest.mark.parametrize("source_format", ["jsonl", "csv"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_standard_input_is_a_source_of_lines_packed_or_not(
    studio: Studio, source_format: str, packed: bool
) -> None:
    pictures = sorted(studio.truth)[:3]
    if source_format == "csv":
        text = "\n".join(["data_path", *pictures]).encode()
    else:
        text = b"\n".join(orjson.dumps({"data_path": path}) for path in pictures)
    name = f"stdin-{source_format}-{'gzip' if packed else 'plain'}"
    text = gzip.compress(text) if packed else text
    said = run(studio, "-", name, "--format", source_format, stdin=text)
    assert said.code == 0, said.err
    assert paths_in(studio, name) == pictures


def test_what_a_folder_holds_besides_is_told_by_status_summary_and_event(
    studio: Studio, tmp_path: Path
) -> None:
    pictures = sorted(studio.truth)[:2]
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        shutil.copy(picture, studio.folder / f"mixed-{number}.png")
    (folder / "notes.txt").touch()
    (folder / "a.HEIC").touch()
    (folder / "b.heic").touch()
    (folder / ".hidden.png").touch()
    (folder / "linked").symlink_to(tmp_path)
    for number in range(2):
        (folder / f"{number}.png").symlink_to(studio.folder / f"mixed-{number}.png")
    said = run(studio, str(folder), "mixed")
    assert said.code == 0, said.err
    kinds = {".heic": 2, ".txt": 1, "links to folders": 1}
    assert studio.status("mixed")["passed_over"] == kinds
    status = " ".join(studio.console.run("backfill", "status", "mixed").out.split())
    assert "passed over 2 .heic, 1 .txt, 1 link to a folder" in status
    summary = orjson.loads((studio.folder / "out-mixed" / "summary.json").read_bytes())
    assert summary["passed_over"] == kinds
    events = studio.console.run("events", "--id", "mixed", "--json").lines
    (ended,) = [event for event in events if event["type"] == "backfill.succeeded"]
    assert ended["data"]["result"]["passed_over"] == kinds


def test_a_folder_of_parquet_parts_is_one_source(studio: Studio, tmp_path: Path) -> None:
    pictures = sorted(studio.truth)[:6]
    for number in range(3):
        rows = pictures[2 * number : 2 * number + 2]
        pq.write_table(pa.table({"data_path": rows}), tmp_path / f"part-{number}.parquet")
    (tmp_path / "_SUCCESS").touch()
    said = run(studio, str(tmp_path), "parts")
    assert said.code == 0, said.err
    assert paths_in(studio, "parts") == pictures
