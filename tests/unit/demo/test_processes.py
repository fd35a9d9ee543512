"""The demo's children: told about when they end, and gone however the demo ends."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from demo.errors import ChildError
from demo.processes import Child, Reaper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SLEEP = "import time; time.sleep(600)"
STUBBORN = f"import signal; signal.signal(15, signal.SIG_IGN); print('up', flush=True); {SLEEP}"
# A parent of a child, as the demo is one: it prints the child's number and hangs.
PARENT = f"""
import asyncio, sys, pathlib
from demo.processes import Child, Reaper
async def main():
    with Reaper() as reaper:
        folder = pathlib.Path(sys.argv[1])
        reaper.guard_folder(folder / "state")
        child = Child("child", folder / "log", reaper)
        await child.start([sys.executable, "-c", {STUBBORN!r}], {{}})
        await child.until(lambda: "up" in child.last_lines())
        print(child.pid, flush=True)
        await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    with Reaper() as one:
        yield one


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline, f"{pid} is still there"
        time.sleep(0.02)


async def started(code: str, tmp_path: Path, reaper: Reaper) -> Child:
    child = Child("child", tmp_path / "log", reaper)
    await child.start([sys.executable, "-c", code], {})
    return child


async def test_a_child_that_ends_before_it_is_ready_shows_its_last_lines(
    tmp_path: Path, reaper: Reaper
) -> None:
    child = await started("raise SystemExit('the port is taken')", tmp_path, reaper)
    with pytest.raises(ChildError, match="the child ended with 1; its last lines:\nthe port is t"):
        await child.until(lambda: False)
    await child.stop()


async def test_a_child_that_is_killed_meanwhile_is_told_by_its_signal(
    tmp_path: Path, reaper: Reaper
) -> None:
    child = await started(SLEEP, tmp_path, reaper)
    watcher = asyncio.create_task(child.watch())
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(ChildError, match="the child was ended by SIGKILL"):
        await watcher
    await child.stop()


async def test_stopping_ends_a_childs_own_children_too(tmp_path: Path, reaper: Reaper) -> None:
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])\n"
        "print(child.pid, flush=True)\n"
        "child.wait()"
    )
    child = await started(code, tmp_path, reaper)
    await child.until(lambda: bool(child.last_lines()))
    grandchild = int(child.last_lines())
    await child.stop()
    await asyncio.to_thread(wait_until_gone, grandchild)


def test_kill_9_of_the_demo_leaves_no_child_and_no_folder(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    with parent.stdout:
        child = int(parent.stdout.readline())
        assert is_running(child)
        parent.kill()
        parent.wait()
    wait_until_gone(child)
    deadline = time.monotonic() + 60
    while state.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_was_released_is_left_alone() -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True) as other:
        with Reaper() as reaper:
            reaper.guard_group(other.pid)
            reaper.release_group(other.pid)
        assert other.poll() is None
        other.kill()


def test_the_guardian_is_ours_where_the_current_folder_has_a_demo_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo.py").write_text("raise SystemExit('not meant')")
    (tmp_path / "state").mkdir()
    monkeypatch.chdir(tmp_path)
    with Reaper() as reaper:
        reaper.guard_folder(tmp_path / "state")
    assert not (tmp_path / "state").exists()
