"""Of what lies where the results of a backfill do, they alone are given out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING
from urllib.parse import quote

import fsspec

from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling, run_to_the_end
from tests.integration.gateway.manifests import (
    BACKFILLS,
)

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger


async def test_results_are_listed_and_downloaded_byte_by_byte(
    gateway: GatewayServer, night: Backfilling, tmp_path: Path
) -> None:
    await run_to_the_end(night)
    out = tmp_path / "night" / "out"
    (out / "secret.txt").write_bytes(b"not of the results")
    base = f"{BACKFILLS}/{NAME}/results"
    items = gateway.http.get(base).json()["items"]
    names = [item["name"] for item in items]
    assert {"summary.json", "failures.jsonl", "coco-results.json"} <= set(names)
    assert len([name for name in names if name.startswith("parts/part-")]) == 5
    assert "secret.txt" not in names
    for item in items:
        answer = gateway.http.get(item["location"])
        assert answer.status_code == 200
        assert answer.content == (out / item["name"]).read_bytes()
        assert answer.headers["content-length"] == str(item["bytes"])
        assert answer.headers["content-type"].startswith(item["type"])
        file_name = item["name"].rpartition("/")[2]
        assert answer.headers["content-disposition"] == (
            f'attachment; filename="{NAME}-{file_name}"'
        )


async def test_no_other_file_is_given_out_by_any_trick(
    gateway: GatewayServer, night: Backfilling, tmp_path: Path
) -> None:
    await run_to_the_end(night)
    out = tmp_path / "night" / "out"
    secret = tmp_path / "secret"
    secret.write_bytes(b"the key")
    (out / "secret.txt").write_bytes(b"the key")
    (out / "parts" / "part-000099.jsonl").symlink_to(secret)
    (out / "report.html").unlink(missing_ok=True)
    (out / "report.html").mkdir()
    names = [
        "secret.txt",
        "../../secret",
        "..%2f..%2fsecret",
        "%2e%2e/%2e%2e/secret",
        "parts/../../../secret",
        quote(str(secret), safe=""),
        f"/{secret}",
        "parts/part-000099.jsonl",
        "parts",
        "parts/",
        "report.html",
        "summary.json%00",
        "summary.json/",
        "./summary.json",
        "summary.json%0a",
        "parts%5cpart-000000.jsonl",
        "part-000000.jsonl",
    ]
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    for name in names:
        # Clients tidy a path before they send it.
        with socket.create_connection((host, int(port))) as connection:
            path = f"{BACKFILLS}/{NAME}/results/{name}"
            connection.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode()
            )
            answer = connection.makefile("rb").read()
        assert b" 404 " in answer.splitlines()[0], name
        assert b"the key" not in answer, name
        assert str(tmp_path).encode() not in answer, name


async def test_results_in_a_store_are_streamed_too(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "night").mkdir()
    night = await backfilling.begin(
        redis, keys, ledger, tmp_path / "night", output=f"memory://{keys.namespace}/out"
    )
    await run_to_the_end(night)
    base = f"{BACKFILLS}/{NAME}/results"
    items = gateway.http.get(base).json()["items"]
    assert len(items) >= 9
    for item in items:
        found = fsspec.filesystem("memory").cat(f"/{keys.namespace}/out/{item['name']}")
        assert gateway.http.get(item["location"]).content == found


async def test_results_that_can_not_be_read_are_told_without_their_place(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "night").mkdir()
    await backfilling.begin(
        redis, keys, ledger, tmp_path / "night", output="nosuchstore://user:secret@host/out"
    )
    answer = gateway.http.get(f"{BACKFILLS}/{NAME}/results")
    assert (answer.status_code, answer.json()["code"]) == (502, "results_unreadable")
    file = gateway.http.get(f"{BACKFILLS}/{NAME}/results/summary.json")
    assert file.status_code == 502
    shown = gateway.http.get(f"{BACKFILLS}/{NAME}")
    for said in (answer, file, shown):
        assert "secret" not in said.text
