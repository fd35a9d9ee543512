"""Events of a namespace that the tests write themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from redis import Redis

from trainmaster_client.names import Names

if TYPE_CHECKING:
    from collections.abc import Iterator


class Told:
    """Writes events as workers do."""

    def __init__(self, redis_url: str, namespace: str) -> None:
        self.redis = Redis.from_url(redis_url)
        self.names = Names(namespace)

    def tell(
        self, event_type: str, subject: str, *, event_id: str | None = None, **data: Any
    ) -> str:
        """Adds an event and returns the id of its entry."""
        text = self.text(event_type, subject, event_id=event_id, **data)
        found: bytes = self.redis.xadd(self.names.events(), {"event": text})  # type: ignore[assignment]
        return found.decode()

    @staticmethod
    def text(event_type: str, subject: str, *, event_id: str | None = None, **data: Any) -> bytes:
        """Returns the JSON of an event."""
        return orjson.dumps({
            "id": event_id or f"{subject}/{event_type}",
            "type": event_type,
            "subject": subject,
            "source": "/trainmaster",
            "time": "2026-01-31T12:00:00.000Z",
            "data": data,
        })

    def pending(self, group: str) -> int:
        """Returns how many events a group has read and not acknowledged."""
        found: Any = self.redis.xpending(self.names.events(), group)
        return int(found["pending"])

    def parked(self, group: str) -> list[dict[bytes, bytes]]:
        """Returns what a group has parked."""
        entries: Any = self.redis.xrange(self.names.parked(group))
        return [fields for _, fields in entries]

    def consumers(self, group: str) -> list[str]:
        """Returns the names of a group's consumers."""
        found: Any = self.redis.xinfo_consumers(self.names.events(), group)
        return [each["name"].decode() for each in found]

    def close(self) -> None:
        """Closes the connection."""
        self.redis.close()


def telling(redis_url: str, namespace: str) -> Iterator[Told]:
    """Gives one that is closed at the end."""
    told = Told(redis_url, namespace)
    yield told
    told.close()
