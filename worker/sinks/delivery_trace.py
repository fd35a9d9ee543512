"""The trace context that goes along with a delivery."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from worker.trace_context import carried

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from trainmaster_client import Event


class DeliveryTrace(Protocol):
    """What is known of one delivery while it goes on."""

    @property
    def headers(self) -> Mapping[str, str]:
        """W3C's headers, for whoever receives it."""
        ...

    def answered(self, status: int) -> None:
        """The endpoint has answered with this status."""


class DeliveryTracer(Protocol):
    """Traces deliveries."""

    def sending(
        self, sink: str, event: Event, server: str, port: int
    ) -> AbstractContextManager[DeliveryTrace]:
        """Traces what is done within; an error that leaves it is one of the delivery."""
        ...


class PassedOn:
    """Traces nothing: a delivery carries the trace context of the command that it tells of."""

    @contextmanager
    def sending(self, sink: str, event: Event, server: str, port: int) -> Iterator[DeliveryTrace]:
        """Passes the event's own context on."""
        del sink, server, port
        yield _Carried(carried(event.attributes))


class _Carried:
    def __init__(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def answered(self, status: int) -> None:
        pass
