"""What a destination of events is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from trainmaster_client import Event

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a destination said to a message that it took.

    Attributes:
        told: in a few words, for people.
        body: the beginning of what it answered.
        status: of HTTP, where it speaks that.
    """

    told: str
    body: str = ""
    status: int | None = None


class DeliveryError(Exception):
    """A message was not taken, or nobody knows; the text is for people and holds no secret.

    Attributes:
        gone: whether the destination wants no messages any more.
        retry_after_seconds: how long it wants to be left alone.
        body: the beginning of what it answered.
        status: of its answer, where it speaks HTTP and has answered.
    """

    def __init__(
        self,
        message: str,
        *,
        gone: bool = False,
        retry_after_seconds: float = 0.0,
        body: str = "",
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.gone = gone
        self.retry_after_seconds = retry_after_seconds
        self.body = body
        self.status = status


class Destination(Protocol):
    """Where a sink's events go."""

    async def send(self, event: Event, text: bytes) -> Answer:
        """Delivers an event.

        Args:
            event: what is delivered.
            text: the same, as it lies in the stream.

        Raises:
            DeliveryError: it was not taken, or nobody knows.
        """

    async def close(self) -> None:
        """Lets go of its connections."""
