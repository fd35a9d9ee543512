"""Whether a process lives, and whether it can do its work.

A process lives while its loops go round; restarting one that does not helps. It is ready while
everything that it needs is there; restarting one that is not does not help.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from worker.queue.heartbeat import Heartbeat

# A batch may keep the loop for a second or two; nothing that is meant to keeps it for longer.
LOOP_LIMIT_SECONDS: Final = 12.0
# Redis may take as long as a socket waits, and a pause follows.
INTAKE_LIMIT_SECONDS: Final = 20.0
# kombu's socket waits for half a minute.
CELERY_LIMIT_SECONDS: Final = 60.0
BEAT_SECONDS: Final = 0.5
# A look of which nothing was heard for so long is over: the loop, or what it asks, stands still.
STALE_SECONDS: Final = 12.0


class Liveness:
    """Whether the loops of a process go round."""

    def __init__(self, heartbeats: Sequence[Heartbeat]) -> None:
        self._heartbeats = heartbeats

    def problems(self) -> dict[str, str]:
        """Returns what stands still, by name; nothing where all is well."""
        return {
            each.name: f"silent for {each.age_seconds or 0:.0f} s; {each.limit_seconds:.0f} s count"
            for each in self._heartbeats
            if each.is_late
        }


class Readiness:
    """What was found at the last look, for whoever asks from another thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._found: Mapping[str, str] = {"start": "it has not met Redis yet"}
        self._at: float | None = None
        self._is_stopping = False

    def stop(self) -> None:
        """Is never ready again."""
        self._is_stopping = True

    def set(self, problems: Mapping[str, str]) -> None:
        """Keeps what a look has found."""
        self._found = dict(problems)
        self._at = self._clock()

    def problems(self) -> dict[str, str]:
        """Returns what is missing, by name; nothing where the process is ready."""
        if self._is_stopping:
            return {"stop": "it was told to stop, and takes nothing new"}
        found = dict(self._found)
        if self._at is not None and (age := self._clock() - self._at) > STALE_SECONDS:
            found["look"] = f"nobody has looked for {age:.0f} s"
        return found


async def beat(heartbeat: Heartbeat, tell_lag: Callable[[float], None]) -> None:
    """Beats on a loop until it is cancelled; tells by how many seconds each beat is late."""
    loop = asyncio.get_running_loop()
    try:
        while True:
            heartbeat.beat()
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            tell_lag(max(0.0, loop.time() - due))
    finally:
        heartbeat.rest()
