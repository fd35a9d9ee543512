"""Standard streams that whoever starts the console script has closed, as some schedulers do."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from tests.console import SCRIPT

if TYPE_CHECKING:
    from tests.console import Console
    from worker.queue.ledger.keys import Keys

# What the next connection and a child process get where all three are closed.
PROGRAM = """
import socket, subprocess, sys
from worker.start import open_closed_streams
open_closed_streams()
with socket.socket() as connection:
    child = subprocess.run([sys.executable, "-c", "import sys; print(sys.stdin.read())"])
    print("nowhere", sys.stdin.read())
    sys.exit(child.returncode or connection.fileno())
"""


def test_a_command_is_sent_though_nobody_reads_what_is_told(
    console: Console, redis_url: str, keys: Keys
) -> None:
    line = f"exec {SCRIPT} submit list_models --id quiet <&- 2>&-"
    done = subprocess.run(
        ["/bin/sh", "-c", line], env=console.environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, b"quiet\n")
    with Redis.from_url(redis_url) as redis:
        assert redis.xlen(keys.commands) == 1


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_neither_a_connection_nor_a_child_process_takes_the_place_of_a_closed_stream(
    closed: str,
) -> None:
    line = ["/bin/sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, PROGRAM]
    done = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode >= 3, done.stderr
    assert done.stderr == b""
