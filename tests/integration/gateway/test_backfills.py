"""`/v1/backfills`: a manifest comes whole or not at all; results alone are given out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import fsspec
import orjson
import pytest

from schemas.enums import SourceFormat
from tests.integration import backfilling
from tests.integration.backfilling import NAME, Backfilling
from tests.integration.ledger_acts import accept_one, new_command, read_entry
from worker.backfill.leader import Leader
from worker.backfill.status import BackfillState, BackfillStatus, Origin
from worker.gateway.tokens import Scope
from worker.queue.ledger.keys import COMMAND_FIELD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.gateway_process import GatewayServer
    from tests.integration.gateway.conftest import MakeToken, ServeGateway
    from worker.queue.ledger.keys import Keys
    from worker.queue.ledger.ledger import Ledger

BACKFILLS = "/v1/backfills"
CSV = {"content-type": "text/csv"}
PROJECT = "0b8b8b8a-1111-4222-8333-444455556666"
ASKED = {
    "task": "object_detection",
    "project_uuid": PROJECT,
    "project_model_uuid": "0b8b8b8a-1111-4222-8333-444455557777",
    "training_uuid": "0b8b8b8a-1111-4222-8333-444455558888",
}
MANIFEST = b"file\n/data/a.jpg\n/data/b.jpg\n"


@pytest.fixture
def uploads(tmp_path: Path) -> Path:
    """Where manifests are kept; it need not be there."""
    return tmp_path / "uploads"


@pytest.fixture
def gateway(serve_gateway: ServeGateway, uploads: Path) -> Iterator[GatewayServer]:
    """A gateway that takes manifests."""
    with serve_gateway(gateway_uploads=str(uploads), gateway_upload_bytes=100_000) as served:
        yield served


def start(http: Any, body: bytes = MANIFEST, *, headers: dict[str, str] = CSV, **query: Any) -> Any:
    return http.post(BACKFILLS, params={**ASKED, **query}, content=body, headers=headers)


def sent(raw_redis: Any, keys: Keys) -> list[dict[str, Any]]:
    return [orjson.loads(fields[COMMAND_FIELD]) for _, fields in raw_redis.xrange(keys.commands)]


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


@pytest.fixture
async def night(redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path) -> Backfilling:
    """A backfill that came through the queue, led by nobody."""
    (tmp_path / "night").mkdir()
    plan = backfilling.make_plan(tmp_path / "night")
    store = backfilling.store_of(redis, keys)
    await store.open(NAME, plan, Origin.QUEUE, "1-1")
    return Backfilling(redis, keys, ledger, store, plan)


async def test_backfills_are_listed_page_by_page_and_shown(
    gateway: GatewayServer, night: Backfilling
) -> None:
    for number in range(3):
        await night.store.open(f"more-{number}", night.plan, Origin.QUEUE, "entry")
    seen: list[str] = []
    cursor: str | None = None
    while cursor is not None or not seen:
        query = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        page = gateway.http.get(BACKFILLS, params=query).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == ["more-0", "more-1", "more-2", NAME]
    assert gateway.http.get(BACKFILLS, params={"cursor": "x"}).json()["code"] == "invalid_cursor"
    shown = gateway.http.get(f"{BACKFILLS}/{NAME}").json()
    assert (shown["state"], shown["origin"]) == ("running", "queue")
    missing = gateway.http.get(f"{BACKFILLS}/nobody")
    assert (missing.status_code, missing.json()["code"]) == (404, "unknown_backfill")


async def test_a_backfill_is_paused_resumed_and_cancelled_without_a_worker(
    gateway: GatewayServer, night: Backfilling
) -> None:
    path = f"{BACKFILLS}/{NAME}"
    for act, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running")):
        assert gateway.http.post(f"{path}/{act}").json()["state"] == state
    assert gateway.http.post(f"{path}/cancel").json()["state"] == "cancelling"
    assert (await night.standing()).state is BackfillState.CANCELLING
    for act in ("pause", "resume", "cancel", "retry-failed"):
        assert gateway.http.post(f"{BACKFILLS}/nobody/{act}").status_code == 404


async def test_one_of_a_console_is_cancelled_by_its_leader_alone(
    gateway: GatewayServer, redis: Redis, keys: Keys, ledger: Ledger, tmp_path: Path
) -> None:
    (tmp_path / "night").mkdir()
    night = await backfilling.begin(redis, keys, ledger, tmp_path / "night")
    path = f"{BACKFILLS}/{NAME}/cancel"
    refused = gateway.http.post(path)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_leader")
    await night.lead()
    assert gateway.http.post(path).json()["state"] == "cancelling"


async def test_a_command_that_no_worker_has_begun_is_seen_and_cancelled(
    gateway: GatewayServer, redis: Redis, ledger: Ledger
) -> None:
    assert start(gateway.http, id="night").status_code == 202
    path = f"{BACKFILLS}/night"
    early = gateway.http.post(f"{path}/cancel")
    assert (early.status_code, early.json()["code"]) == (409, "not_read_yet")
    await redis.xgroup_create(ledger.keys.commands, "intake", id="0")
    entry = await read_entry(redis, ledger.keys)
    await ledger.accept([new_command(entry, "night", command_type="backfill")])
    assert gateway.http.get(path).json()["state"] == "accepted"
    assert gateway.http.post(f"{path}/cancel").json()["state"] == "cancelled"
    await accept_one(redis, ledger, "model")
    assert gateway.http.get(f"{BACKFILLS}/model").status_code == 404


async def ended(night: Backfilling, failing: str = "") -> BackfillStatus:
    async with night.working(failing):
        found = await Leader(night.store, NAME, announces=True).work(seconds=60)
    assert isinstance(found, BackfillStatus)
    assert found.state is BackfillState.SUCCEEDED
    return found


async def test_results_are_listed_and_downloaded_byte_by_byte(
    gateway: GatewayServer, night: Backfilling, tmp_path: Path
) -> None:
    await ended(night)
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
    await ended(night)
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
    await ended(night)
    base = f"{BACKFILLS}/{NAME}/results"
    items = gateway.http.get(base).json()["items"]
    assert len(items) >= 9
    for item in items:
        found = fsspec.filesystem("memory").cat(f"/{keys.namespace}/out/{item['name']}")
        assert gateway.http.get(item["location"]).content == found


async def test_what_failed_is_run_again_once(
    gateway: GatewayServer, night: Backfilling, raw_redis: Any, keys: Keys, uploads: Path
) -> None:
    path = f"{BACKFILLS}/{NAME}/retry-failed"
    early = gateway.http.post(path)
    assert (early.status_code, early.json()["code"]) == (409, "not_ended")
    await ended(night, "not_found")
    first, again = gateway.http.post(path), gateway.http.post(path)
    assert (first.status_code, first.json()["id"]) == (202, f"{NAME}.retry")
    assert (first.json()["duplicate"], again.json()["duplicate"]) == (False, True)
    (command,) = sent(raw_redis, keys)
    assert command["causationid"] == NAME
    assert command["data"].items() >= night.plan.common.items()
    kept = command["data"]["source"]
    assert kept.startswith(f"{uploads}/")
    with fsspec.open(kept, "rb") as file:
        assert len(file.read().splitlines()) == backfilling.ITEMS


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


async def test_a_token_of_other_types_knows_no_backfills(
    gateway: GatewayServer, night: Backfilling, make_token: MakeToken
) -> None:
    with gateway.client(make_token(Scope.READ, Scope.OPERATE, types=["train"])) as http:
        assert http.get(BACKFILLS).json()["items"] == []
        for path in ("", "/results", "/results/summary.json"):
            assert http.get(f"{BACKFILLS}/{NAME}{path}").status_code == 404
        for act in ("pause", "resume", "cancel", "retry-failed"):
            assert http.post(f"{BACKFILLS}/{NAME}/{act}").status_code == 404
    assert (await night.standing()).state is BackfillState.RUNNING
