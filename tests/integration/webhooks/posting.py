"""Sources as a file names them, and deliveries as Encord sends them."""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from worker.integrations.file import load_integrations
from worker.queue.ledger.streams import entries_between
from worker.webhooks.receiving import WebhookReceiver

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from worker.integrations.file import Integrations
    from worker.queue.ledger.keys import Keys

SECRET = "whsec-of-the-tests"
PROJECT = "11111111-1111-4111-8111-111111111111"
OTHER_PROJECT = "22222222-2222-4222-8222-222222222222"
MODEL = "33333333-3333-4333-8333-333333333333"
RETENTION_SECONDS = 600

HEAD = """
[sources.encord]
scheme = "encord"
secrets = [{ env = "ENCORD_WEBHOOK_SECRET" }]
"""

GET_MODEL = f"""
[[sources.encord.rules]]
name = "look"
on = "task_submitted_event"
[sources.encord.rules.command]
type = "get_model"
data.model_uuid = "'{MODEL}'"
"""

FOR_EACH = """
[[sources.encord.rules]]
name = "each"
on = "task_submitted_event"
for_each = "body.payload.data_hashes"
[sources.encord.rules.command]
type = "get_model"
priority = "bulk"
data.model_uuid = "item"
"""

WINDOWED = f"""
[[sources.encord.rules]]
name = "train"
on = "task_submitted_event"
allow = ["{PROJECT}"]
coalesce = {{ key = "body.payload.project_hash", window_seconds = 1 }}
[sources.encord.rules.command]
type = "train"
data.model_uuid = "'{MODEL}'"
data.batch_size = 8
data.epochs = 2
data.features_mapping = {{ "{MODEL}" = {{ aBcD1234 = ["'car'"] }} }}
data.labels_uuids = "deliveries[].payload.label_hashes[]"
"""


def integrations_of(folder: Path, *texts: str) -> Integrations:
    """Returns what a file with these texts says."""
    file = folder / f"integrations-{uuid.uuid4().hex[:8]}.toml"
    file.write_text("".join(texts), encoding="utf-8")
    return load_integrations(file, {"ENCORD_WEBHOOK_SECRET": SECRET})


def receiver_of(redis: Redis, keys: Keys, integrations: Integrations) -> WebhookReceiver:
    return WebhookReceiver(redis, keys, integrations.sources, retention_seconds=RETENTION_SECONDS)


@dataclass(frozen=True)
class Post:
    """A request as a sender makes it."""

    headers: list[tuple[bytes, bytes]]
    body: bytes


def signed(body: bytes, *, secret: str = SECRET, at: float | None = None) -> Post:
    """Returns a request of Encord's with this body."""
    timestamp = str(int(time.time() if at is None else at)).encode()
    signature = hmac.new(secret.encode(), timestamp + b"." + body, hashlib.sha256).hexdigest()
    headers = [
        (b"content-type", b"application/json"),
        (b"X-Encord-Timestamp", timestamp),
        (b"X-Encord-Signature", signature.encode()),
        (b"authorization", b"Bearer very-secret"),
    ]
    return Post(headers, body)


def submitted(
    uid: str | None = None,
    *,
    project: str = PROJECT,
    labels: list[str] | None = None,
    data: list[Any] | None = None,
    event_type: str = "task_submitted_event",
    version: int = 1,
) -> bytes:
    """Returns the body of Encord's delivery about a submitted task."""
    return orjson.dumps({
        "uid": uid or str(uuid.uuid4()),
        "version": version,
        "source": "encord",
        "event_type": event_type,
        "event_created_timestamp": "2026-11-27T06:00:00Z",
        "payload": {
            "project_hash": project,
            "data_hashes": [str(uuid.uuid4())] if data is None else data,
            "label_hashes": [str(uuid.uuid4())] if labels is None else labels,
        },
    })


async def commands_in(redis: Redis, stream: str) -> list[dict[str, Any]]:
    """Returns the commands of a stream in their order."""
    return [
        orjson.loads(fields[b"command"])
        for _, fields in await entries_between(redis, stream, "-", "+")
    ]


async def letters_in(redis: Redis, keys: Keys) -> list[dict[str, Any]]:
    """Returns all dead letters, oldest first."""
    entries = await entries_between(redis, keys.dead_letters, "-", "+")
    return [orjson.loads(fields[b"dead_letter"]) for _, fields in entries]
