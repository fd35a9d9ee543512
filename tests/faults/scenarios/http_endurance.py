"""Very many requests over our own HTTP layer: the memory of who sends them stays as it is."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.faults.audit import Report
from worker.encord.api.signing import RequestSigner
from worker.encord.api.transport import Transport
from worker.garbage import collect_rarely

CONNECTIONS: Final = 128
STEPS: Final = 10
MIB: Final = 1_048_576
# What an allocator does with a process that is new.
_GROWTH_MIB: Final = 8.0
_START_SECONDS: Final = 30.0
_UUID: Final = "00000000-0000-4000-8000-000000000001"
_PATH: Final = f"/projects/{_UUID}/ml-models/{_UUID}/predict"


def http_endurance(folder: Path, count: int) -> Report:
    """Sends requests to a server of another process and reports how memory grew.

    Args:
        folder: where the server tells its port.
        count: requests.
    """
    ready = folder / "ready"
    thresholds = gc.get_threshold()
    command = [sys.executable, "-m", "benchmarks.stub", "--latency-ms", "0", "--ready", str(ready)]
    with subprocess.Popen(command) as server:
        try:
            until = time.monotonic() + _START_SECONDS
            while not ready.exists():
                assert time.monotonic() < until, "the server has started"
                time.sleep(0.05)
            # Rarely, as a worker does: what is garbage piles up.
            collect_rarely()
            sizes = uvloop.run(_send(f"http://127.0.0.1:{ready.read_text()}", count))
        finally:
            server.terminate()
            gc.set_threshold(*thresholds)
            gc.unfreeze()
    grown = max(sizes[1:]) - sizes[0]
    return Report(
        "http endurance",
        faults=0,
        commands=count,
        lost=0,
        doubled=0,
        wrong=int(grown > _GROWTH_MIB),
        details={"MiB": " ".join(f"{each:.1f}" for each in sizes)},
    )


async def _send(url: str, count: int) -> list[float]:
    """Returns the memory in MiB after the first requests, and after each tenth of them."""
    signer = RequestSigner(Ed25519PrivateKey.generate())
    async with Transport(url, signer, connections=CONNECTIONS) as transport:

        async def slot(numbers: range) -> None:
            for _ in numbers:
                (await transport.send("POST", _PATH, body=b"{}")).accept()

        async def send(requests: int) -> float:
            each = range(max(1, requests // CONNECTIONS))
            await asyncio.gather(*(slot(each) for _ in range(CONNECTIONS)))
            return _resident_mib()

        return [await send(count // STEPS) for _ in range(STEPS + 1)]


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB
