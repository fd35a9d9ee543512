"""Sinks: which events go where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, InstanceOf, PlainValidator, ValidationInfo
from pydantic_core import PydanticCustomError

from schemas.attributes import ReplyTo
from schemas.events import Problem
from worker.errors import SettingError
from worker.integrations.expressions import Expression, ExpressionError
from worker.integrations.patterns import TypePatterns, fits_no_event
from worker.integrations.rules import FilePart, Name
from worker.integrations.secrets import Secret, StandardSecrets, read_named
from worker.redaction import redact_url
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterator


def _compile(value: Any) -> Expression:
    if not isinstance(value, str):
        raise _wrong("must be an expression in quotes")
    try:
        # An event may have any extension.
        return Expression(value)
    except ExpressionError as exc:
        raise _wrong(str(exc)) from None


def _read_url(value: Any, info: ValidationInfo) -> Secret:
    """Returns a URL that stands in the file, or that a variable or a file holds."""
    if isinstance(value, str):
        return Secret(value.encode(errors="replace"), redact_url(value))
    return read_named(value, info)


def _check_redis(value: Any, info: ValidationInfo) -> Secret:
    url = _read_url(value, info)
    if not url.value:
        return url
    try:
        RedisAddress.parse(url.value.decode()).check_files()
    except SettingError as exc:
        raise _wrong(exc.message.removeprefix("TRAINMASTER_REDIS_URL ")) from None
    return url


def _check_broker(value: Any, info: ValidationInfo) -> Secret:
    url = _read_url(value, info)
    if url.value and b"://" not in url.value:
        raise _wrong("must be a URL that kombu speaks, like amqp://host/vhost")
    return url


def _check_endpoint(value: Any, info: ValidationInfo) -> Secret:
    url = _read_url(value, info)
    if not url.value:
        return url
    try:
        parts = urlsplit(url.value.decode())
        port = parts.port
    except ValueError:
        raise _wrong("is no URL; it must be like https://example.com/hook") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise _wrong("must be a URL like https://example.com/hook")
    if "@" in parts.netloc:
        raise _wrong("holds a user or a password; deliveries are signed, so leave them out")
    if parts.fragment:
        raise _wrong("has a #, of which no server is told; remove it")
    return url


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("sink", "{said}", {"said": message})


EventExpression = Annotated[InstanceOf[Expression], PlainValidator(_compile)]
RedisUrl = Annotated[InstanceOf[Secret], BeforeValidator(_check_redis)]
BrokerUrl = Annotated[InstanceOf[Secret], BeforeValidator(_check_broker)]
WebhookUrl = Annotated[InstanceOf[Secret], BeforeValidator(_check_endpoint)]
KeyName = Annotated[str, Field(min_length=1, max_length=512)]


class WebhookSink(FilePart):
    """An endpoint that takes Standard Webhooks."""

    url: WebhookUrl = Field(description="Where to: a URL, or `{ env = … }`.")
    secrets: StandardSecrets = Field(description="What signs: one secret, or two in a rotation.")
    timeout_seconds: float = Field(15.0, ge=1, le=180, description="Longest wait for an answer.")
    concurrency: int = Field(8, ge=1, le=256, description="Most requests at a time.")
    requests_per_second: float = Field(0.0, ge=0, le=10_000, description="0 sets no limit.")
    allow_private: bool = Field(
        False, description="Whether it may lie at a private, loopback or link-local address."
    )


class RedisSink(FilePart):
    """A stream or a list in a Redis."""

    url: RedisUrl | None = Field(None, description="A URL or `{ env = … }`. Absent: our own Redis.")
    stream: KeyName | None = Field(None, description="The key of a stream.")
    list: KeyName | None = Field(None, description="The key of a list, instead of a stream.")
    maxlen: int | None = Field(
        100_000, ge=1, le=1_000_000_000, description="Entries that the stream keeps, about."
    )


class BrokerSink(FilePart):
    """A broker that kombu speaks to, like RabbitMQ."""

    url: BrokerUrl = Field(description="A URL or `{ env = … }`.")
    exchange: Annotated[str, Field(max_length=255)] = Field(
        "trainmaster", description="The topic exchange; it is declared."
    )
    routing_key: EventExpression = Field(
        default_factory=lambda: Expression("type"),
        description="What messages are routed by.",
    )


class SinkConfig(FilePart):
    """Which events go where."""

    name: Name
    types: TypePatterns | None = Field(
        None, description="Types of events, one or a list; `*` stands for any text. Absent: all."
    )
    reply_to: Annotated[list[ReplyTo], Field(min_length=1)] | None = Field(
        None, description="Only events of commands with one of these as `replyto`."
    )
    when: EventExpression | None = Field(
        None, description="On the event: only events for which it gives something."
    )
    webhook: WebhookSink | None = Field(
        None, description="An endpoint that takes Standard Webhooks."
    )
    redis: RedisSink | None = Field(None, description="A stream or a list of a Redis.")
    broker: BrokerSink | None = Field(None, description="A broker that kombu speaks to.")

    def problems(self) -> Iterator[Problem]:
        """Yields what is wrong with the sink, seen as a whole."""
        for text in self.types.texts if self.types else ():
            if told := fits_no_event(text):
                yield Problem(path="types", message=told)
        targets = [self.webhook, self.redis, self.broker]
        if sum(each is not None for each in targets) != 1:
            told = "needs exactly one table of webhook, redis and broker"
            yield Problem(path="", message=told)
        if self.redis is not None and (self.redis.stream is None) == (self.redis.list is None):
            yield Problem(path="redis", message="needs exactly one of stream and list")
