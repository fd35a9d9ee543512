"""Servers that never answer and machines short of files, with a real worker: others go on."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

import orjson

from tests.console import SCRIPT, TIMEOUT_SECONDS, Console, wait_until
from tests.security.stubbed import TOKEN, stubbed_worker
from tests.stub_api import StubApi, reply

if TYPE_CHECKING:
    from pathlib import Path

    from worker.embedded import EmbeddedRedis

ANY = "00000000-0000-4000-8000-000000000000"
ITEMS = 300
_RUN = ("--project", ANY, "--attachment", ANY, "--training", ANY, "--task", "object_detection")


def test_a_server_that_never_answers_holds_up_nothing_else(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """A hundred datarefs hang; files, large results and other commands are done meanwhile."""
    (tmp_path / "root").mkdir()
    for number in range(20):
        data = {"model_uuid": ANY}
        (tmp_path / "root" / f"{number}.json").write_bytes(orjson.dumps(data))
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with stubbed_worker(
            redis_server.url,
            "hanging",
            tmp_path,
            TRAINMASTER_SOURCE_URLS=url,
            # A server gets half of them, so ten of a hundred can't even ask.
            TRAINMASTER_CONCURRENCY="180",
            TRAINMASTER_DATA_ROOTS=str(tmp_path / "root"),
            TRAINMASTER_RESULT_LIMIT_BYTES="1024",
            TRAINMASTER_DOWNLOAD_TIMEOUT_SECONDS="60",
            TRAINMASTER_DOWNLOAD_IDLE_TIMEOUT_SECONDS="60",
        ) as stubbed:
            hanging = [
                {"type": "delete_model", "id": f"h{number}", "dataref": f"{url}/{number}"}
                for number in range(100)
            ]
            link = orjson.dumps("https://x/" + "y" * 5_000)
            stubbed.api.default = reply(200, link)
            with stubbed.client.pipeline() as pipe:
                for command in hanging:
                    pipe.xadd(stubbed.keys.commands, {"command": orjson.dumps(command)})
                pipe.execute()
            begun = time.monotonic()
            large = [
                {
                    "type": "get_weights_download_link",
                    "id": f"l{number}",
                    "data": {"model_uuid": ANY, "training_uuid": ANY},
                }
                for number in range(20)
            ]
            ends = stubbed.carry_out(large)
            assert {end["type"] for end in ends.values()} == {"get_weights_download_link.succeeded"}
            assert all(end["dataref"] for end in ends.values())
            stubbed.api.default = reply(204)
            deleting = [
                {
                    "type": "delete_model",
                    "id": f"f{number}",
                    "dataref": str(tmp_path / "root" / f"{number}.json"),
                }
                for number in range(20)
            ]
            ends = stubbed.carry_out(deleting)
            assert {end["type"] for end in ends.values()} == {"delete_model.succeeded"}
            assert time.monotonic() - begun < 30
            assert not {each for each in stubbed.ends() if each.startswith("h")}
            log = stubbed.log
            wait_until(lambda: log.read_bytes().count(b'"server.stalled"') >= 10, "it is told")
            assert b'"machine.exhausted"' not in log.read_bytes()
            begun = time.monotonic()
        assert time.monotonic() - begun < 20, "downloads that hang don't keep a worker from ending"


def test_a_worker_with_few_open_files_fails_no_item(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """512 places and a limit of 256 files, on a stub that answers slowly."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(ITEMS):
        (pictures / f"{number:04}.jpg").write_bytes(b"x" * 20_000)
    log = tmp_path / "worker.log"
    with StubApi(default=reply(200, b'{"result": {"0": []}}')) as api:
        console = Console(
            redis_server.url,
            "fewfiles",
            ENCORD_DOMAIN=api.url,
            TRAINMASTER_BEARER_TOKEN=TOKEN,
            TRAINMASTER_DATA_ROOTS=str(pictures),
            TRAINMASTER_LOG_FORMAT="json",
            TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
        )
        with log.open("ab") as file:
            worker = subprocess.Popen(
                ["/bin/sh", "-c", f"ulimit -n 256; exec {SCRIPT} worker"],
                stdout=file,
                stderr=file,
                env=console.environment,
            )
        try:
            wait_until(lambda: b"ready." in log.read_bytes(), "a ready worker")
            told = console.run(
                *("backfill", "run", str(pictures), "--id", "few"),
                *("--output", str(tmp_path / "out")),
                *(*_RUN, "--json"),
            )
        finally:
            worker.terminate()
            worker.wait(TIMEOUT_SECONDS)
    assert told.code == 0, told.out + told.err + log.read_text()
    assert "worker.concurrency_lowered" in log.read_text()
    sent = [each.body for each in api.recorded if each.method == "POST"]
    assert len(set(sent)) == 1
    assert len(sent) >= ITEMS
