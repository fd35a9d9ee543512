"""The benchmarks' own command, short, with the contenders that need nothing but us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

import dev
from benchmarks.contenders.registry import CEILINGS, NODE_QUEUES, OURS
from benchmarks.processes import Cores
from benchmarks.running import running
from benchmarks.testbed import open_testbed
from tests.console import wait_until

if TYPE_CHECKING:
    from benchmarks.contenders.contender import Contender

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pins processes, reads /proc")

ROOT = Path(__file__).parents[2]
COMMANDS = 600
SECONDS = 120


@pytest.mark.parametrize(
    ("contender", "tls"),
    [
        (OURS, False),
        (OURS, True),
        *(
            pytest.param(contender, False, marks=pytest.mark.long)
            for contender in (*CEILINGS, *NODE_QUEUES)
        ),
        *(
            pytest.param(contender, True, marks=pytest.mark.long)
            for contender in (CEILINGS[1], NODE_QUEUES[0])
        ),
    ],
    ids=lambda one: "tls" if one is True else getattr(one, "name", "plain"),
)
def test_a_contender_calls_the_api_once_for_each_command_and_tells_its_end_once(
    contender: Contender, *, tls: bool
) -> None:
    if contender in NODE_QUEUES and (why := dev.set_up_node()):
        pytest.skip(why)
    with (
        open_testbed(Cores.of_machine(), latency_ms=5, tls=tls) as testbed,
        running(testbed, contender) as work,
    ):
        work.send(COMMANDS)
        work.await_ends(COMMANDS, SECONDS)
        names = {f"{work.run}-{number}" for number in range(COMMANDS)}
        assert testbed.calls() == dict.fromkeys(names, 1)
        assert work.follower.ends == dict.fromkeys(names, 1)
        assert testbed.connections() <= contender.concurrency, "connections are kept"
        assert work.worker.cpu_seconds() > 0
        assert work.worker.memory_bytes() > 10_000_000


def test_one_command_measures_and_writes_the_page(tmp_path: Path) -> None:
    chosen = [part for one in (OURS, *CEILINGS) for part in ("--only", one.name)]
    command = [sys.executable, "-m", "benchmarks", "--short", "--seconds", "0.2", *chosen]
    done = subprocess.run(
        [*command, "--output", tmp_path],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS * 3,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = orjson.loads((tmp_path / "benchmarks" / "results.json").read_bytes())
    records = results["throughput"]["records"]
    assert [record["contender"] for record in records] == [one.name for one in (OURS, *CEILINGS)]
    assert all(record["per_second"] > 0 and record["twice"] == 0 for record in records)
    page = (tmp_path / "benchmarks.md").read_text()
    assert f"| {records[0]['per_second']:,.0f} |" in page
    assert "![commands per second of each contender](benchmarks/throughput.svg)" in page


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_run_that_is_broken_off(
    number: signal.Signals, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", OURS.name, "--seconds", "30"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    measuring = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(_children(measuring.pid)) >= 3, "Redis, the stub and a worker run")
    children = _children(measuring.pid)
    measuring.send_signal(number)
    measuring.wait(SECONDS)
    wait_until(lambda: not any(map(_lives, children)), "all of them are gone")


def test_an_exit_that_python_drops_in_a_finalizer_comes_again() -> None:
    program = """
import signal, sys, benchmarks.__main__ as measured
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
sys.unraisablehook = measured._exit_again
class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
Finalized()
while True:
    pass
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, timeout=SECONDS, check=False)
    assert done.returncode == 143


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_name_that_is_not_known_is_wrong_usage() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only", "no-such-queue"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert "no-such-queue: not one of" in done.stderr
