"""Commands are packed while handlers of signals raise: no process ends by SIGSEGV."""

from __future__ import annotations

import subprocess
import sys

import pytest
from redis.exceptions import DataError

from trainmaster_client.packing import Packer

# A timer that fires while a command of many numbers is packed, again and again.
INTERRUPTED = """
import signal
import sys
from worker.queue.ledger.connection import connect
from worker.redis_address import RedisAddress

class Interrupt(Exception):
    pass

def handle(*_):
    raise Interrupt

kind, url = sys.argv[1:]
if kind == "asyncio":
    pool = connect(url, "{a}").connection_pool
elif kind == "sentinels":
    pool = RedisAddress.parse(url).client().connection_pool.sentinel_manager.sentinels[0]
    pool = pool.connection_pool
elif kind == "node":
    import redis
    pool = None
    def execute_command(client, *_):
        global pool
        pool = client.connection_pool
        raise OSError
    redis.Redis.execute_command = execute_command
    try:
        RedisAddress.parse(url).slot_owner("{a}").find()
    except redis.exceptions.ConnectionError:
        pass
else:
    pool = RedisAddress.parse(url).client("{a}").connection_pool
connection = pool.make_connection()
signal.signal(signal.SIGALRM, handle)
seen = 0
while seen < 10:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.002)
        while True:
            connection.pack_command("XADD", *[1, 2.5] * 5_000)
    except Interrupt:
        seen += 1
print("ended")
"""


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("blocking", "redis://localhost"),
        ("blocking", "rediss://localhost"),
        ("blocking", "sentinel://localhost"),
        ("blocking", "redis+cluster://localhost"),
        ("sentinels", "sentinel://localhost"),
        ("node", "redis+cluster://localhost"),
        ("asyncio", "redis://localhost"),
        ("asyncio", "redis+cluster://localhost"),
    ],
)
def test_a_signal_whose_handler_raises_may_come_while_a_command_is_packed(
    kind: str, url: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, kind, url],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ended\n", "")


def test_numbers_go_to_redis_as_text() -> None:
    packed = Packer().pack("XADD", "a", 12, 0.5, b"\xff")
    assert packed == [b"*5\r\n$4\r\nXADD\r\n$1\r\na\r\n$2\r\n12\r\n$3\r\n0.5\r\n$1\r\n\xff\r\n"]


def test_what_is_neither_text_nor_a_number_is_refused() -> None:
    with pytest.raises(DataError):
        Packer().pack("SET", "a", None)
