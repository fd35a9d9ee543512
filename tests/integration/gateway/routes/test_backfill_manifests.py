"""Backfills start with a manifest, which comes whole or not at all."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import fsspec
import pytest

from schemas.enums import SourceFormat
from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling, run_to_the_end
from tests.integration.gateway.manifests import (
    ASKED,
    BACKFILLS,
    CSV,
    MANIFEST,
    PROJECT,
    sent,
    start,
)
from worker.backfill.keys import backfill_key
from worker.gateway.access.tokens import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys


@pytest.fixture
def gateway(serve_gateway: ServeGateway, uploads: Path) -> Iterator[GatewayServer]:
    """A gateway that takes manifests."""
    with serve_gateway(gateway_uploads=str(uploads), gateway_upload_bytes=100_000) as served:
        yield served


def test_an_uploaded_manifest_becomes_the_source_of_a_command(
    gateway: GatewayServer, uploads: Path, raw_redis: Any, keys: Keys
) -> None:
    said = start(gateway.http, id="night", map="data_path=file", conf_thresh=0.5, max_failures=3)
    assert said.status_code == 202, said.text
    assert said.json()["bytes"] == len(MANIFEST)
    assert said.headers["location"] == said.json()["location"] == f"{BACKFILLS}/night"
    (command,) = sent(raw_redis, keys)
    (kept,) = uploads.iterdir()
    assert kept.read_bytes() == MANIFEST
    assert command == {
        "type": "backfill",
        "id": "night",
        "data": {
            **ASKED,
            "conf_thresh": 0.5,
            "max_failures": 3,
            "part_format": "jsonl",
            "item_events": False,
            "columns": {"data_path": "file"},
            "format": "csv",
            "source": str(kept),
        },
    }
    assert gateway.http.get(f"{BACKFILLS}/night").json()["state"] == "submitted"


@pytest.mark.parametrize(
    ("media_type", "found"),
    [
        ("text/csv; charset=utf-8", SourceFormat.CSV),
        ("application/x-ndjson", SourceFormat.JSONL),
        ("application/json", SourceFormat.JSONL),
        ("application/vnd.apache.parquet", SourceFormat.PARQUET),
    ],
)
def test_the_media_type_tells_what_the_manifest_is(
    gateway: GatewayServer, raw_redis: Any, keys: Keys, media_type: str, found: SourceFormat
) -> None:
    assert start(gateway.http, headers={"content-type": media_type}).status_code == 202
    (command,) = sent(raw_redis, keys)
    assert command["data"]["format"] == found
    assert command["data"]["source"].endswith(f".{found}")


def test_the_same_again_starts_nothing_more_and_another_is_told(
    gateway: GatewayServer, raw_redis: Any, keys: Keys
) -> None:
    http = gateway.http
    assert start(http, id="night").json()["duplicate"] is False
    by_header = start(http, headers={**CSV, "idempotency-key": "night"})
    assert (by_header.status_code, by_header.json()["duplicate"]) == (202, True)
    for again in (
        start(http, MANIFEST + b"/data/c.jpg\n", id="night"),
        start(http, id="night", conf_thresh=0.1),
    ):
        assert (again.status_code, again.json()["code"]) == (422, "idempotency_conflict")
    assert len(sent(raw_redis, keys)) == 1
    both = start(http, id="a", headers={**CSV, "idempotency-key": "b"})
    assert (both.status_code, both.json()["code"]) == (422, "invalid_parameters")


@pytest.mark.parametrize(
    ("query", "headers", "body", "status", "code"),
    [
        ({}, CSV, b"", 400, "empty_manifest"),
        ({}, {"content-type": "text/plain"}, MANIFEST, 415, "media_type_not_taken"),
        ({}, {**CSV, "content-encoding": "gzip"}, MANIFEST, 415, "encoding_not_taken"),
        ({}, CSV, b"x" * 100_001, 413, "too_large"),
        ({"task": "guess"}, CSV, MANIFEST, 422, "invalid_parameters"),
        ({"conf_thresh": "2"}, CSV, MANIFEST, 422, "invalid_parameters"),
        ({"map": "path=file"}, CSV, MANIFEST, 422, "invalid_parameters"),
        ({"map": ["data_path=a", "data_path=b"]}, CSV, MANIFEST, 422, "invalid_parameters"),
        ({"replyto": "NO"}, CSV, MANIFEST, 422, "invalid_parameters"),
        ({"source": "/etc/passwd"}, CSV, MANIFEST, 422, "invalid_parameters"),
    ],
    ids=str,
)
def test_what_can_not_be_a_backfill_leaves_nothing(
    gateway: GatewayServer,
    uploads: Path,
    raw_redis: Any,
    keys: Keys,
    query: dict[str, Any],
    headers: dict[str, str],
    body: bytes,
    status: int,
    code: str,
) -> None:
    answer = start(gateway.http, body, headers=headers, **query)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert sent(raw_redis, keys) == []
    assert not uploads.exists()


def test_half_a_manifest_is_none(
    gateway: GatewayServer, uploads: Path, raw_redis: Any, keys: Keys
) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as connection:
        head = f"POST {BACKFILLS}?{urlencode(ASKED)} HTTP/1.1\r\nHost: {host}:{port}\r\n"
        connection.sendall(f"{head}Content-Type: text/csv\r\nContent-Length: 100\r\n\r\n".encode())
        connection.sendall(b"file\n/data/a.jpg\n")
        connection.shutdown(socket.SHUT_WR)
        # Whatever is said to who has gone, it is said before the next one is answered.
        connection.recv(65_536)
    assert start(gateway.http).status_code == 202
    assert len(sent(raw_redis, keys)) == len(list(uploads.iterdir())) == 1


def test_who_may_not_send_it_is_told_before_the_manifest_is_read(
    gateway: GatewayServer, make_token: MakeToken, uploads: Path
) -> None:
    other = "0b8b8b8a-9999-4222-8333-444455556666"
    for token in (
        make_token(Scope.SUBMIT, projects=[other]),
        make_token(Scope.SUBMIT, types=["train"]),
        make_token(Scope.READ),
    ):
        with gateway.client(token) as http:
            assert start(http).status_code == 403
    with gateway.client(make_token(Scope.SUBMIT, projects=[PROJECT])) as http:
        assert start(http).status_code == 202
    assert len(list(uploads.iterdir())) == 1


def test_without_a_place_for_manifests_it_is_said_what_to_set(serve_gateway: ServeGateway) -> None:
    with serve_gateway() as gateway:
        answer = start(gateway.http)
        assert (answer.status_code, answer.json()["code"]) == (501, "uploads_not_set")
        assert "TRAINMASTER_GATEWAY_UPLOADS" in answer.json()["detail"]


def test_manifests_go_to_any_store_and_one_that_fails_is_told(
    serve_gateway: ServeGateway, tmp_path: Path, raw_redis: Any, keys: Keys
) -> None:
    with serve_gateway(gateway_uploads="memory://manifests/") as gateway:
        assert start(gateway.http).status_code == 202
        (command,) = sent(raw_redis, keys)
        with fsspec.open(command["data"]["source"], "rb") as file:
            assert file.read() == MANIFEST
    (tmp_path / "file").write_bytes(b"")
    with serve_gateway(gateway_uploads=f"{tmp_path}/file/below") as gateway:
        answer = start(gateway.http, id="other")
        assert (answer.status_code, answer.json()["code"]) == (503, "uploads_unavailable")
        assert str(tmp_path) not in answer.text


async def test_what_failed_is_run_again_once(
    gateway: GatewayServer, night: Backfilling, raw_redis: Any, keys: Keys, uploads: Path
) -> None:
    path = f"{BACKFILLS}/{NAME}/retry-failed"
    early = gateway.http.post(path)
    assert (early.status_code, early.json()["code"]) == (409, "not_ended")
    told = {"correlationid": "order-1", "tenant": "a"}
    plan = replace(night.plan, context=told, reply_to="shift", item_events=True)
    await night.redis.hset(backfill_key(keys, NAME), "plan", plan.json().decode())
    await run_to_the_end(night, "not_found")
    first, again = gateway.http.post(path), gateway.http.post(path)
    assert (first.status_code, first.json()["id"]) == (202, f"{NAME}.retry")
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    (command,) = sent(raw_redis, keys)
    assert command["causationid"] == NAME
    assert command.items() >= (told | {"replyto": "shift"}).items()
    assert command["data"]["item_events"] is True
    assert command["data"].items() >= night.plan.common.items()
    kept = command["data"]["source"]
    assert kept.startswith(f"{uploads}/")
    with fsspec.open(kept, "rb") as file:
        assert len(file.read().splitlines()) == backfilling.ITEMS


async def test_a_backfill_of_which_nothing_failed_has_nothing_to_run_again(
    gateway: GatewayServer, night: Backfilling, raw_redis: Any, keys: Keys
) -> None:
    await run_to_the_end(night)
    answer = gateway.http.post(f"{BACKFILLS}/{NAME}/retry-failed")
    assert (answer.status_code, answer.json()["code"]) == (409, "nothing_failed")
    assert sent(raw_redis, keys) == []


async def test_failures_that_can_not_be_read_are_not_run_again(
    gateway: GatewayServer, night: Backfilling, raw_redis: Any, keys: Keys, tmp_path: Path
) -> None:
    await run_to_the_end(night, "not_found")
    (tmp_path / "night" / "out" / "failures.jsonl").unlink()
    answer = gateway.http.post(f"{BACKFILLS}/{NAME}/retry-failed")
    assert (answer.status_code, answer.json()["code"]) == (502, "results_unreadable")
    assert sent(raw_redis, keys) == []
    assert gateway.http.get("/v1/actions").json()["items"] == []
