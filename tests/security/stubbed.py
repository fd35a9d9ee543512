"""A real worker whose API is a stub that answers as a test tells it, and records what came."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import orjson
from redis import Redis

from tests.console import Console, running_worker, wait_until
from tests.faults.audit import entries
from tests.stub_api import StubApi
from trainmaster_client import Client
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TOKEN = "bearer-t0ken-that-nobody-may-see"
_ENDS = frozenset({"succeeded", "failed", "cancelled", "rejected"})


class Stubbed:
    """The worker's console, its stub, and its events."""

    def __init__(self, console: Console, api: StubApi, log: Path) -> None:
        self.console = console
        self.api = api
        self.log = log
        self.redis_url = console.environment["TRAINMASTER_REDIS_URL"]
        self.keys = Keys(console.namespace)
        self.client = Redis.from_url(self.redis_url)

    def carry_out(self, commands: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Submits commands and returns their terminal events by id, once all have ended."""
        with Client(self.redis_url, namespace=self.console.namespace) as producer:
            wanted = set(producer.submit_many(commands))
        wait_until(lambda: wanted <= set(self.ends()), "all commands have ended")
        return {command_id: end for command_id, end in self.ends().items() if command_id in wanted}

    def ends(self) -> dict[str, dict[str, Any]]:
        """Returns all terminal events by id."""
        return {event["subject"]: event for event in self.events() if _state(event) in _ENDS}

    def events(self) -> list[dict[str, Any]]:
        """Returns all events."""
        found = entries(self.client, self.keys.events)
        return [orjson.loads(fields[b"event"]) for _, fields in found]


def _state(event: Mapping[str, Any]) -> str:
    return str(event["type"]).rpartition(".")[2]


@contextmanager
def stubbed_worker(
    redis_url: str, namespace: str, folder: Path, **settings: str
) -> Iterator[Stubbed]:
    """Runs a worker on a namespace of its own; it ends in good order or the test fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with StubApi() as api:
        environment = {
            "ENCORD_DOMAIN": api.url,
            "TRAINMASTER_BEARER_TOKEN": TOKEN,
            "TRAINMASTER_LOG_FORMAT": "json",
            "TRAINMASTER_LOG_LEVEL": "DEBUG",
            "TRAINMASTER_RESULT_STORE": str(folder / "results"),
            "TRAINMASTER_RETRY_MIN_SECONDS": "0.1",
            "TRAINMASTER_RETRY_MAX_SECONDS": "0.2",
            **settings,
        }
        console = Console(redis_url, namespace, **environment)
        # Its command line is looked at.
        with running_worker(console, folder / "worker.log", may_fork=False):
            stubbed = Stubbed(console, api, folder / "worker.log")
            yield stubbed
            stubbed.client.close()
