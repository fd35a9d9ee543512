"""A worker's memory, with a real worker: many pictures at once take what the setting says."""

from __future__ import annotations

import base64
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.console import Console, running_worker
from tests.security.stubbed import TOKEN
from tests.stub_api import Answer, StubApi
from tests.web_server import Bodies

if TYPE_CHECKING:
    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
PICTURE_BYTES = 4_000_000
PICTURES = 50
# All of a worker; without a bound it is far more for these pictures.
MOST_MIB = 256
BODY = b'{"result": {"0": []}}'
_RUN = ("--project", ANY, "--attachment", ANY, "--training", ANY, "--task", "object_detection")


def peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


@pytest.mark.parametrize("where", ["folder", "length", "chunked"])
def test_a_worker_in_256_mib_carries_a_backfill_of_pictures_of_4_mb(
    redis_server: EmbeddedRedis, tmp_path: Path, where: str
) -> None:
    content = random.Random(7).randbytes(PICTURE_BYTES)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    bodies = Bodies()
    for number in range(PICTURES):
        (pictures / f"{number:03}.jpg").write_bytes(content)
        bodies.files[f"{number:03}.jpg"] = content
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(BODY)
    slow = Answer(head + BODY, delay_seconds=0.3)
    with StubApi(default=slow) as api, bodies.serve() as url:
        settings = {
            "ENCORD_DOMAIN": api.url,
            "TRAINMASTER_BEARER_TOKEN": TOKEN,
            "TRAINMASTER_DATA_ROOTS": str(pictures),
            "TRAINMASTER_SOURCE_URLS": url,
            "TRAINMASTER_RESULT_STORE": str(tmp_path / "results"),
        }
        console = Console(redis_server.url, f"memory-{where}", **settings)
        source = tmp_path / "items.jsonl"
        root = str(pictures) if where == "folder" else f"{url}/{where}"
        rows = [{"data_path": f"{root}/{number:03}.jpg"} for number in range(PICTURES)]
        source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
        with running_worker(console, tmp_path / "worker.log", may_fork=False) as worker:
            told = console.run(
                *("backfill", "run", str(source), "--id", "m", "--output", str(tmp_path / "out")),
                *(*_RUN, "--json"),
            )
            peak = peak_mib(worker.pid)
    assert told.code == 0, told.out + told.err
    sent = [each.body for each in api.recorded if each.method == "POST"]
    assert len(sent) == PICTURES
    wanted = base64.b64encode(content)
    assert all(wanted in body for body in sent)
    assert peak < MOST_MIB, f"{peak:.0f} MiB"
