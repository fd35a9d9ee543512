"""Several processes beneath one: which of them live, and how all of them end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.console import wait_until
from worker.processes import Processes

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
# Each writes its number and its pid as it begins, and once more as it ends in good order.
PROGRAM = """
import os, signal, sys, time
from worker.processes import Processes

HANGS = -2
folder, ends = sys.argv[1], [int(each) for each in sys.argv[2].split(",")]

def write(text):
    with open(f"{folder}/told", "a") as file:
        file.write(text + "\\n")

def serve(number):
    stopped = []
    def stop(*_):
        if stopped and ends[number] == HANGS:
            return
        if stopped:
            write(f"at once {number}")
            os._exit(0)
        stopped.append(1)
        write(f"asked {number}")
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    write(f"began {number} {os.getpid()}")
    if ends[number] >= 0:
        return ends[number]
    while not stopped or os.path.exists(f"{folder}/busy"):
        time.sleep(0.01)
    write(f"ended {number}")
    return 0

def look():
    open(f"{folder}/looked", "w").close()

processes = Processes(
    ["one", "two"], serve, fatal=frozenset({2}), on_look=look, stop_seconds=float(sys.argv[3])
)
sys.exit(processes.run())
"""
LIVES = "-1,-1"
HANGS = "-2,-2"


class Parent:
    """The program above."""

    def __init__(self, folder: Path, ends: str, stop_seconds: float = 60) -> None:
        self.folder = folder
        self._output: str | None = None
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder), ends, str(stop_seconds)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # Ctrl-C goes to all of a terminal's group.
            process_group=0,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def told(self, what: str) -> list[str]:
        path = self.folder / "told"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.removeprefix(f"{what} ") for line in lines if line.startswith(what)]

    def await_told(self, what: str, count: int) -> list[str]:
        wait_until(lambda: len(self.told(what)) >= count, f"{count} have {what}")
        return self.told(what)

    def end(self) -> tuple[int, str]:
        if self._output is None:
            self._output, _ = self.process.communicate(timeout=60)
        return self.process.returncode, self._output


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Parent]:
    parent = Parent(tmp_path, LIVES)
    parent.await_told("began", 2)
    yield parent
    parent.process.kill()
    parent.end()


def test_one_that_dies_is_started_again_and_the_other_goes_on(lives: Parent) -> None:
    first = dict(line.split() for line in lives.told("began"))
    os.kill(int(first["0"]), signal.SIGKILL)
    number, pid = lives.await_told("began", 3)[2].split()
    assert number == "0"
    assert pid != first["0"]
    lives.process.terminate()
    code, out = lives.end()
    assert code == 0
    assert sorted(lives.told("ended")) == ["0", "1"]
    assert "processes.died" in out
    assert "one" in out
    assert (lives.folder / "looked").exists()


def test_ctrl_c_reaches_each_of_them_once(lives: Parent) -> None:
    os.killpg(lives.process.pid, signal.SIGINT)
    assert lives.end()[0] == 0
    assert sorted(lives.told("ended")) == ["0", "1"]
    assert lives.told("at once") == []


def test_a_second_signal_is_handed_on_too(lives: Parent) -> None:
    (lives.folder / "busy").touch()
    lives.process.terminate()
    lives.await_told("asked", 2)
    lives.process.terminate()
    assert lives.end()[0] == 0
    assert sorted(lives.told("at once")) == ["0", "1"]


def test_who_hangs_is_killed_once_its_time_is_over_and_named(tmp_path: Path) -> None:
    parent = Parent(tmp_path, LIVES, stop_seconds=0.5)
    parent.await_told("began", 2)
    (tmp_path / "busy").touch()
    begun = time.monotonic()
    parent.process.terminate()
    code, out = parent.end()
    assert code == 1
    assert time.monotonic() - begun > 0.5, "it has its time"
    assert parent.told("ended") == []
    assert "processes.killed" in out
    assert "'one', 'two'" in out


def test_who_hangs_has_no_more_time_however_often_it_is_told_to_stop(tmp_path: Path) -> None:
    parent = Parent(tmp_path, HANGS, stop_seconds=0.5)
    parent.await_told("began", 2)
    (tmp_path / "busy").touch()

    def is_over() -> bool:
        parent.process.terminate()
        return parent.process.poll() is not None

    try:
        wait_until(is_over, "all are killed")
    finally:
        parent.process.kill()
    assert "processes.killed" in parent.end()[1]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for it")
def test_they_end_in_good_order_where_their_parent_is_killed(lives: Parent) -> None:
    lives.process.kill()
    lives.await_told("ended", 2)


def test_what_no_new_start_mends_ends_all_with_its_code(tmp_path: Path) -> None:
    parent = Parent(tmp_path, "-1,2")
    code, out = parent.end()
    assert code == 2
    assert "processes.refused" in out
    assert len(parent.told("began 1")) == 1


def test_one_that_ends_at_once_is_not_started_in_a_loop(tmp_path: Path) -> None:
    parent = Parent(tmp_path, "-1,1")
    parent.await_told("began 1", 2)
    begun = time.monotonic()
    parent.await_told("began 1", 3)
    assert time.monotonic() - begun > 1.5, "the pause grows"
    parent.process.terminate()
    assert parent.end()[1].count("processes.died") >= 2


def test_a_signal_just_before_a_process_is_started_starts_none() -> None:
    """Nobody would tell it to stop, and its parent would wait for it for ever."""
    processes = Processes(["one"], lambda _: 0, stop_seconds=1)
    processes._stop_all()
    (member,) = processes._members
    processes._fork(0, member)
    assert member.pid is None


@pytest.mark.parametrize(("seconds", "stops"), [(0, True), (61, False)])
def test_a_setting_that_was_right_for_a_minute_ends_no_others(seconds: int, *, stops: bool) -> None:
    processes = Processes(["one"], lambda _: 2, fatal=frozenset({2}), stop_seconds=1)
    (member,) = processes._members
    member.started = time.monotonic() - seconds
    processes._ended(member, 2)
    assert processes._stopping is stops


def test_one_that_has_lived_for_a_minute_is_started_again_as_soon_as_at_first() -> None:
    """Those that die in a row wait longer each time; not what dies once in a week."""
    processes = Processes(["one"], lambda _: 0, stop_seconds=1)
    (member,) = processes._members
    for lived_seconds, next_pause_seconds in ((0, 2), (0, 4), (0, 8), (61, 2), (0, 4)):
        member.started = time.monotonic() - lived_seconds
        processes._ended(member, 1)
        assert member.pause == next_pause_seconds
