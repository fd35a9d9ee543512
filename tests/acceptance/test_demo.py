"""`trainmaster demo`, run for real in its short form, and ended in every way that there is."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="what is left is looked for in /proc"
)

CONSOLE_SCRIPT = "import sys; from worker.cli import main; sys.exit(main())"
PATIENCE_SECONDS = 850


class Demo:
    """A demo in the short form; everything that it starts carries a mark in its environment."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.output = folder / "output"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        self._mark = f"DEMO_TEST={folder}"
        self._printed = folder / "printed.txt"
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-c", CONSOLE_SCRIPT),
                    *("demo", "--quick", "--output", "output", *options),
                ],
                cwd=folder,
                env={**os.environ, "DEMO_TEST": str(folder), "TMPDIR": str(self.temporary)},
                stdout=printed,
                stderr=printed,
            )

    @property
    def printed(self) -> str:
        return self._printed.read_text()

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def wait_for_event(self, event_type: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not any(event["type"] == event_type for event in self.events()):
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.05)

    def page_url(self) -> str:
        """Where its page is, once all has been shown."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "runs until Ctrl-C" not in self.printed:
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.1)
        found = re.search(r"its page is (http://127\.0\.0\.1:\d+/)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    def events(self) -> list[dict[str, Any]]:
        journal = self.output / "events.jsonl"
        lines = journal.read_bytes().splitlines(keepends=True) if journal.exists() else []
        return [orjson.loads(line) for line in lines if line.endswith(b"\n")]

    def running(self) -> dict[int, str]:
        """All processes of the demo: number and command line."""
        found = {}
        for process in Path("/proc").glob("[0-9]*"):
            try:
                environ = (process / "environ").read_bytes().split(b"\0")
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            if self._mark.encode() in environ:
                found[int(process.name)] = command
        return found

    def server(self, part: str) -> int:
        """The one process whose command line has `part`.

        What it has forked carries its command line until it becomes another program, and has none
        while it does.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = [pid for pid, command in self.running().items() if part in command]
            first = [pid for pid in found if parent_of(pid) not in {None, *found}]
            if len(first) == 1:
                return first[0]
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, (found, self.running())
            time.sleep(0.05)

    def wait_until_nothing_is_left(self) -> None:
        deadline = time.monotonic() + 120
        while self.running() or any(self.temporary.iterdir()):
            assert time.monotonic() < deadline, (self.running(), list(self.temporary.iterdir()))
            time.sleep(0.05)


def parent_of(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


@contextmanager
def demo_in(folder: Path, *options: str) -> Iterator[Demo]:
    demo = Demo(folder, *options)
    try:
        yield demo
    finally:
        for pid in demo.running():
            os.kill(pid, signal.SIGKILL)
        demo.process.wait()


@pytest.mark.parametrize(
    "options", [("--open",), pytest.param((), marks=pytest.mark.long)], ids=" ".join
)
def test_the_demo_shows_everything_and_leaves_nothing_but_its_output(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    with demo_in(tmp_path, *options) as demo:
        if options:
            look_at_its_page(demo.page_url())
            demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 0, demo.printed
        demo.wait_until_nothing_is_left()

    ends = Counter(event["subject"] for event in demo.events() if is_end(event))
    accepted = [event["subject"] for event in demo.events() if event["type"].endswith(".accepted")]
    assert set(ends) == set(accepted)
    assert set(ends.values()) == {1}
    assert all(event["type"].endswith(".succeeded") for event in demo.events() if is_end(event))
    kinds = Counter(event["type"] for event in demo.events())
    assert kinds["create_model.succeeded"] == 3
    assert kinds["train.started"] == kinds["train.succeeded"] == 4
    assert kinds["attach.succeeded"] == 6
    # Six held-out items of each project, for each of the four trainings.
    assert kinds["predict.succeeded"] == 4 * 2 * 6

    log = (demo.output / "sandbox.log").read_text()
    assert "fork" not in log, "JAX warns of a deadlock where a fork runs its hook"

    assert len(list((demo.output / "pictures").glob("*.jpg"))) == 12
    assert len(list((demo.output / "curves").glob("*.svg"))) == 8
    check_links(demo.output / "index.html")
    for line in ("detection", "segmentation", "classification", "61 commands"):
        assert line in demo.printed


def look_at_its_page(url: str) -> None:
    """It is a page, and what it asks for tells of what the demo did."""
    with httpx.Client(base_url=url) as http:
        assert http.get("").headers["content-type"].startswith("text/html")
        done = http.get("v1/commands", params={"type": "train", "state": "succeeded"}).json()
        assert len(done["items"]) == 4
        predictions = http.get("v1/commands", params={"type": "predict"}).json()["items"]
        pictures = [http.get(f"v1/commands/{each['id']}/picture") for each in predictions]
        shown = [each for each in pictures if each.status_code == 200]
        assert shown, "some are predicted on as files, which the gateway may read"
        assert all(each.headers["content-type"].startswith("image/") for each in shown)


def test_ctrl_c_in_the_middle_of_a_training_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo_in(tmp_path) as demo:
        demo.wait_for_event("train.started")
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 128 + signal.SIGINT, demo.printed
        demo.wait_until_nothing_is_left()
    assert "Stopped by SIGINT" in demo.printed
    assert "Traceback" not in demo.printed


def test_kill_9_in_the_middle_of_a_training_leaves_nothing_behind(tmp_path: Path) -> None:
    with demo_in(tmp_path) as demo:
        demo.wait_for_event("train.started")
        demo.process.kill()
        demo.wait()
        demo.wait_until_nothing_is_left()


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("worker", " worker --name"),
        pytest.param("sandbox", " sandbox ", marks=pytest.mark.long),
    ],
)
def test_a_server_that_dies_ends_the_demo_with_the_tail_of_its_log(
    tmp_path: Path, name: str, part: str
) -> None:
    with demo_in(tmp_path) as demo:
        demo.wait_for_event("create_model.succeeded")
        os.kill(demo.server(part), signal.SIGKILL)
        assert demo.wait() == 1, demo.printed
        demo.wait_until_nothing_is_left()
    assert f"the {name} was ended by SIGKILL; its last lines:" in demo.printed
    assert "Traceback" not in demo.printed


def test_an_output_that_is_no_folder_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("here is a file")
    with demo_in(tmp_path) as demo:
        assert demo.wait() == 2
        demo.wait_until_nothing_is_left()
    assert "--output" in demo.printed
    assert "Traceback" not in demo.printed


def is_end(event: dict[str, Any]) -> bool:
    return event["type"].rpartition(".")[2] in {"succeeded", "failed", "cancelled", "rejected"}


def check_links(page: Path) -> None:
    """All that the page shows or links to lies beside it, and nothing comes from elsewhere."""
    text = page.read_text()
    links = re.findall(r'(?:href|src|srcset)="([^"]*)"', text)
    assert len(links) > 30
    assert [link for link in links if not (page.parent / link).is_file()] == []
    assert "http://" not in text
    assert "https://" not in text
    assert "$" not in text
