"""Follows a stream of events and counts ends by command."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import orjson

from worker.queue.ledger.streams import of_one_stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from redis import Redis

_PAGE = 2_000
_FIRST = b"0-0"
_END = b'.succeeded"'
_ACCEPTED = b'.accepted"'
_FAILED = b'.failed"'


class Follower:
    """Reads on whenever it is asked to.

    Attributes:
        ends: how often each command was said to have succeeded.
        times: when each command's first end was published, in seconds by Redis' clock.
        accepted: how many commands were said to be accepted.
        failed: how many commands were said to have failed.
        last_ms: when the last end was published, by Redis' clock.
    """

    def __init__(self, redis: Redis, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self._since = _FIRST
        self.ends: Counter[str] = Counter()
        self.times: dict[str, float] = {}
        self.accepted = 0
        self.failed = 0
        self.last_ms = 0

    def read(self) -> int:
        """Reads what came since; returns how many commands have ended so far."""
        while True:
            reply = self._redis.xread({self._stream: self._since}, count=_PAGE)
            entries = of_one_stream(reply)
            for entry_id, fields in entries:
                self._since = entry_id
                event = fields[b"event"]
                if _END in event:
                    subject = orjson.loads(event)["subject"]
                    self.ends[subject] += 1
                    self.last_ms = int(entry_id.partition(b"-")[0])
                    self.times.setdefault(subject, self.last_ms / 1000)
                elif _ACCEPTED in event:
                    self.accepted += 1
                elif _FAILED in event:
                    self.failed += 1
            if len(entries) < _PAGE:
                return len(self.ends)

    def read_accepted(self) -> int:
        """Reads what came since; returns how many commands were accepted so far."""
        self.read()
        return self.accepted

    def until(
        self,
        count: int,
        seconds: float,
        *,
        every: float = 0.1,
        look: Callable[[], object] = lambda: None,
    ) -> bool:
        """Returns whether `count` commands in all have ended within a time, and none has failed.

        Args:
            count: of commands.
            seconds: until it gives up.
            every: seconds between two looks.
            look: called at each look.
        """
        deadline = time.monotonic() + seconds
        while self.read() < count:
            look()
            if self.failed or time.monotonic() > deadline:
                return False
            time.sleep(every)
        return True
