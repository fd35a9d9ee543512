"""Interactive commands beside a backfill: how long each takes from being sent to its end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

import orjson
from redis import Redis

from trainmaster_client import Client
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

REPLIES = "probe"
# One command of a person who clicks: the next is sent when this time is over, ended or not.
PAUSE_SECONDS = 0.05
BLOCK_MILLISECONDS = 200


def percentile(seconds: Sequence[float], percent: float) -> float:
    """Returns the time within which so many percent ended."""
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, int(len(ranked) * percent / 100))]


class Prober:
    """Sends commands one after the other while it is entered, and notes when each has ended.

    Args:
        redis_url: of the ledger.
        namespace: of the worker.
        command_type: of the commands.
        data: of each of them.
    """

    def __init__(
        self, redis_url: str, namespace: str, command_type: str, data: Mapping[str, Any]
    ) -> None:
        self.seconds: list[float] = []
        self.failed = 0
        self._url = redis_url
        self._namespace = namespace
        self._command = {"type": command_type, "data": data, "replyto": REPLIES}
        self._sent: dict[str, float] = {}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=target) for target in (self._listen, self._send)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops sending, and waits for the ends of what was sent."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        with Client(self._url, namespace=self._namespace) as producer:
            number = 0
            while not self._over.is_set():
                command_id = f"probe-{time.time_ns()}-{number}"
                self._sent[command_id] = time.perf_counter()
                producer.submit({**self._command, "id": command_id})
                number += 1
                self._over.wait(PAUSE_SECONDS)

    def _listen(self) -> None:
        stream = Keys(self._namespace).replies(REPLIES)
        with Redis.from_url(self._url) as client:
            last: bytes | str = "$"
            while not self._over.is_set() or self._sent:
                found: Any = client.xread({stream: last}, block=BLOCK_MILLISECONDS)
                for _, entries in found:
                    for last, fields in entries:  # noqa: B007 - the last one goes on
                        self._note(orjson.loads(fields[b"event"]))

    def _note(self, event: Mapping[str, Any]) -> None:
        state = str(event["type"]).rpartition(".")[2]
        if state not in {"succeeded", "failed"} or event["subject"] not in self._sent:
            return
        self.seconds.append(time.perf_counter() - self._sent.pop(event["subject"]))
        self.failed += state == "failed"
