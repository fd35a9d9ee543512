"""A source without an end, read by a real worker."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tests.console import wait_until
from tests.integration.backfilling import command
from tests.security.stubbed import stubbed_worker
from tests.stub_api import Answer, StubApi
from trainmaster_client import Client

if TYPE_CHECKING:
    from pathlib import Path

DEADLINE_SECONDS = 4.0


def test_a_source_without_an_end_outlasts_neither_a_cancellation_nor_a_deadline(
    redis_url: str, tmp_path: Path
) -> None:
    """A byte every 50 ms: its server is never silent."""
    endless = Answer(raw=b"HTTP/1.1 200 OK\r\n\r\n", then="trickle")
    data = {name: value for name, value in command(0)["data"].items() if name != "data_uuid"}
    with StubApi(default=endless) as server:
        data["source"] = f"{server.url}/items.jsonl"
        settings = {"TRAINMASTER_SOURCE_URLS": f"{server.url}/"}
        with (
            stubbed_worker(redis_url, "endless", tmp_path, **settings) as stubbed,
            Client(redis_url, namespace="endless") as client,
        ):
            client.submit("backfill", data, id="cancelled")
            wait_until(lambda: bool(server.recorded), "the first read")
            client.cancel("cancelled")
            deadline = datetime.now(UTC) + timedelta(seconds=DEADLINE_SECONDS)
            client.submit("backfill", data, id="late", deadline=deadline.isoformat())
            wait_until(lambda: {"cancelled", "late"} <= stubbed.ends().keys(), "both ends")
            ends = stubbed.ends()
    assert ends["cancelled"]["type"] == "backfill.cancelled"
    assert ends["late"]["data"]["error"]["code"] == "deadline_exceeded"
    assert datetime.fromisoformat(ends["late"]["time"]) - deadline < timedelta(seconds=10)
