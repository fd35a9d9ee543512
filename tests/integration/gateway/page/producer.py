"""Commands for whoever watches the page: very many at once, and then a steady few."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx
import orjson

from tests.faults.scenarios.backfills import ASKED
from worker.queue.ledger.keys import COMMAND_FIELD, EVENT_FIELD, Keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from redis import Redis

    from tests.gateway_process import GatewayProcess

NAMESPACE: Final = "page-million"
PER_SECOND: Final = 50
# The correlation id of those that wait till tomorrow.
TO_CANCEL: Final = "to-cancel"
# What is sent ahead of the worker, so that Redis holds no stream of a million.
_AHEAD: Final = 20_000
_KEYS: Final = Keys(NAMESPACE)


class Producer:
    """Puts commands on the stream; what the gateway has made of them is in its lists."""

    def __init__(self, client: Redis, gateway: GatewayProcess) -> None:
        self._client: Any = client
        self._gateway = gateway

    def fill(self, commands: int, to_cancel: int) -> None:
        """Sends so many, the last of which wait till tomorrow; returns once the lists have all."""
        begun = time.monotonic()
        sent = 0
        while (listed := self.listed()) < commands:
            if sent == commands or sent - listed > _AHEAD:
                time.sleep(0.2)
                continue
            numbers = range(sent, min(sent + 1_000, commands))
            self._send(_command(number, waits=number >= commands - to_cancel) for number in numbers)
            sent = numbers.stop
        seconds = time.monotonic() - begun
        sys.stdout.write(f"{commands:,} commands stand in the lists after {seconds:.0f} s\n")

    def listed(self) -> int:
        """Returns how many commands the gateway's lists have."""
        states = httpx.get(f"{self._gateway.url}/v1/overview", timeout=60).json()["states"]
        return sum(states.values())

    @contextmanager
    def steady(self, name: str, per_second: int = PER_SECOND) -> Iterator[None]:
        """Sends at a steady pace while it is entered."""
        stop = threading.Event()

        def send() -> None:
            due, number = time.monotonic(), 0
            while not stop.wait(max(0.0, due - time.monotonic())):
                self._send([_command(number, name)])
                number, due = number + 1, due + 1 / per_second

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def accepted_at(self, since: str) -> dict[str, int]:
        """Returns when each command behind an entry was accepted: by Redis' clock, in ms."""
        found = {}
        while entries := self._client.xrange(_KEYS.events, f"({since}", count=5_000):
            for entry, fields in entries:
                event = orjson.loads(fields[EVENT_FIELD])
                if event["type"].endswith(".accepted"):
                    found[event["subject"]] = int(entry.partition(b"-")[0])
            since = entries[-1][0].decode()
        return found

    def last_event(self) -> str:
        """Returns the entry of the newest event."""
        ((entry, _),) = self._client.xrevrange(_KEYS.events, count=1)
        return str(entry.decode())

    def redis_cpu_seconds(self) -> float:
        """Returns Redis' processor time so far."""
        cpu = self._client.info("cpu")
        return float(cpu["used_cpu_user"] + cpu["used_cpu_sys"])

    def _send(self, commands: Iterable[dict[str, Any]]) -> None:
        pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.xadd(_KEYS.commands, {COMMAND_FIELD: orjson.dumps(command)})
        pipeline.execute()


def _command(number: int, name: str = "night", *, waits: bool = False) -> dict[str, Any]:
    """Returns a command; one of ten comes too late, one of twenty is of another type."""
    command: dict[str, Any] = {
        "id": f"{name}-{number}",
        "type": "predict",
        "correlationid": f"batch-{number % 1_000}",
        "data": {**ASKED, "task": "object_detection", "data_uuid": ASKED["project_uuid"]},
    }
    if waits:
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        return command | {"correlationid": TO_CANCEL, "notbefore": tomorrow.isoformat()}
    if number % 10 == 0:
        command["deadline"] = "2026-01-01T00:00:00Z"
        if number % 20 == 0:
            command |= {"type": "list_models", "data": {}}
    return command
