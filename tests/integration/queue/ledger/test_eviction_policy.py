"""The eviction policy is looked at again while workers run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from tests.console import Console, running_worker, wait_until
from worker.embedded import EmbeddedRedis
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

from redis import Redis

NOBODY = "00000000-0000-4000-8000-000000000000"
# It fails before the API is asked.
COMMAND = (
    '{"type":"predict","id":"one","data":{"task":"classification","data_path":"/nowhere",'
    f'"project_uuid":"{NOBODY}","project_model_uuid":"{NOBODY}","training_uuid":"{NOBODY}"}}}}'
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """A server that no other test uses, for its configuration is changed."""
    with EmbeddedRedis(tmp_path / "redis") as running:
        yield running


def test_a_policy_that_is_changed_under_workers_is_critical_and_they_go_on(
    server: EmbeddedRedis, tmp_path: Path
) -> None:
    console = Console(
        server.url,
        "evicting",
        TRAINMASTER_BEARER_TOKEN="of-nobody",
        ENCORD_DOMAIN="http://127.0.0.1:9",
        TRAINMASTER_LOG_FORMAT="json",
        TRAINMASTER_REPAIR_SECONDS="0.2",
        TRAINMASTER_RESULT_STORE=str(tmp_path / "results"),
    )
    keys, log = Keys(console.namespace), tmp_path / "worker.log"

    def told() -> list[dict[str, str]]:
        lines = [orjson.loads(line) for line in log.read_bytes().splitlines() if line[:1] == b"{"]
        return [line for line in lines if line["event"] == "redis.may_evict"]

    with running_worker(console, log) as worker, Redis.from_url(server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        wait_until(lambda: bool(told()), "the worker tells of the policy")
        assert told()[0]["level"] == "critical"
        assert told()[0]["policy"] == "allkeys-lru"
        assert "noeviction" in told()[0]["advice"]
        # Rows expire, so this one throws them away as well, and with them what was done.
        client.config_set("maxmemory-policy", "volatile-ttl")
        wait_until(lambda: told()[-1]["policy"] == "volatile-ttl", "it tells of this one too")
        client.xadd(keys.commands, {"command": COMMAND})
        wait_until(lambda: client.hget(keys.command("one"), "s") == b"failed", "work goes on")
        assert worker.poll() is None
        said = {each["check"]: each for each in console.run("doctor", "--json").lines}
        assert said["redis.policy"]["level"] == "fail"
        client.config_set("maxmemory-policy", "noeviction")
