"""A broker that kombu speaks, like RabbitMQ, as a destination."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kombu import Connection, Exchange, Producer

from worker.errors import BusyThreadsError
from worker.integrations.expressions import ExpressionError
from worker.redaction import redact_text
from worker.sinks.destinations import CONTENT_TYPE, Answer, DeliveryError
from worker.thread_pools import ThreadPool

if TYPE_CHECKING:
    from trainmaster_client import Event
    from worker.integrations.sink_config import BrokerSink

CONNECT_SECONDS: Final = 10.0
SEND_SECONDS: Final = 30.0
_LONGEST_KEY: Final = 255


def _options(url: str) -> dict[str, Any]:
    """Returns what a transport is told, so that it confirms and no silence lasts for ever."""
    scheme = url.partition("://")[0].partition("+")[0]
    if scheme in {"amqp", "amqps", "pyamqp"}:
        return {
            "confirm_publish": True,
            "read_timeout": SEND_SECONDS / 2,
            "write_timeout": SEND_SECONDS / 2,
        }
    if scheme in {"redis", "rediss", "sentinel"}:
        return {"socket_timeout": SEND_SECONDS / 2, "socket_connect_timeout": CONNECT_SECONDS}
    return {}


class Broker:
    """An exchange of a broker; a message counts once the broker has confirmed it.

    kombu blocks, so that it has a thread of its own, and one connection in it.
    """

    def __init__(self, name: str, config: BrokerSink) -> None:
        self._url = config.url.value.decode()
        self._exchange = config.exchange
        self._routing_key = config.routing_key
        self._threads = ThreadPool(f"sink-{name}", 1)
        self._connection: Connection | None = None
        self._producer: Any = None

    async def send(self, event: Event, text: bytes) -> Answer:
        """Publishes an event and waits for the broker's word.

        Raises:
            DeliveryError: the broker is away, refuses it, or is silent.
        """
        try:
            key = self._routing_key.evaluate(event.attributes)
        except ExpressionError as exc:
            raise DeliveryError(f"routing_key: {exc}") from exc
        if not isinstance(key, str) or len(key.encode()) > _LONGEST_KEY:
            raise DeliveryError(f"routing_key must give a text of {_LONGEST_KEY} bytes at most")
        try:
            await self._threads.run(SEND_SECONDS, self._publish, event.id, event.type, key, text)
        except (TimeoutError, BusyThreadsError) as exc:
            raise DeliveryError(f"the broker is silent for {SEND_SECONDS:g} s") from exc
        except Exception as exc:
            # Whatever kombu's transport raises: each has errors of its own, and some a password.
            told = redact_text(" ".join(str(exc).split()))[:300]
            raise DeliveryError(f"{type(exc).__name__}: {told}") from exc
        return Answer("published")

    async def close(self) -> None:
        """Closes its connection."""
        with suppress(Exception):
            await self._threads.run(CONNECT_SECONDS, self._close)

    def _publish(self, message_id: str, event_type: str, key: str, text: bytes) -> None:
        try:
            self._open().publish(
                text,
                routing_key=key,
                content_type=CONTENT_TYPE,
                content_encoding="utf-8",
                message_id=message_id,
                type=event_type,
                delivery_mode=2,
                retry=False,
            )
        except BaseException:
            self._close()
            raise

    def _open(self) -> Any:
        if self._producer is None:
            self._connection = Connection(
                self._url,
                connect_timeout=CONNECT_SECONDS,
                transport_options=_options(self._url),
            )
            self._connection.ensure_connection(max_retries=1, timeout=int(CONNECT_SECONDS))
            exchange = Exchange(self._exchange, type="topic", durable=True)
            self._producer = Producer(self._connection, exchange=exchange, auto_declare=True)
        return self._producer

    def _close(self) -> None:
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            with suppress(Exception):
                connection.release()
