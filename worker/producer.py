"""Sends commands from Python; every other language does the same with one XADD."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Self

import orjson

from worker.ledger.keys import COMMAND_FIELD, CommandStream, Keys
from worker.redis_address import RedisAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType


class Producer:
    """Adds commands to the streams of a namespace: bulk ones to one of their own.

    Args:
        redis_url: where Redis is, as in the setting of the workers.
        namespace: the namespace of the workers.

    Raises:
        SettingError: the URL names no Redis, or files for TLS that can't be used.

    Example:
        >>> with Producer("redis://127.0.0.1:6379") as producer:  # doctest: +SKIP
        ...     producer.submit("get_model", {"model_uuid": "…"})
    """

    def __init__(self, redis_url: str, namespace: str = "trainmaster") -> None:
        address = RedisAddress.parse(redis_url)
        address.check_files()
        self._redis = address.client()
        self._keys = Keys(namespace)

    def __enter__(self) -> Self:
        """Returns the producer."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connection."""
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._redis.close()

    def submit(
        self,
        command: str | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> str:
        """Adds one command and returns its id, which names it in every event.

        Args:
            command: the whole command, or its type.
            data: the command's data, where `command` is a type.
            attributes: `id`, `replyto`, `priority` and so on; None is the same as absent. Without
                an id one is made, so that the same call again is another command; give one to
                make it safe to repeat.

        Raises:
            redis.exceptions.RedisError: it is not known whether the command was added; submit
                again with the same id.
        """
        whole = _whole(command, data, attributes)
        self._redis.xadd(self._stream(whole), {COMMAND_FIELD: orjson.dumps(whole)})
        return str(whole["id"])

    def submit_many(self, commands: Iterable[Mapping[str, Any]]) -> list[str]:
        """Adds many commands in one round trip and returns their ids, in order.

        Raises:
            redis.exceptions.RedisError: it is not known which of them were added.
        """
        pipe = self._redis.pipeline(transaction=False)
        ids = []
        for command in commands:
            whole = _whole(command, None, {})
            pipe.xadd(self._stream(whole), {COMMAND_FIELD: orjson.dumps(whole)})
            ids.append(str(whole["id"]))
        pipe.execute()
        return ids

    def _stream(self, command: Mapping[str, Any]) -> str:
        return self._keys.stream(CommandStream.of(command.get("priority")))


def _whole(
    command: str | Mapping[str, Any], data: Mapping[str, Any] | None, attributes: Mapping[str, Any]
) -> dict[str, Any]:
    whole: dict[str, Any] = {"type": command} if isinstance(command, str) else dict(command)
    if data is not None:
        whole["data"] = dict(data)
    whole.update({name: value for name, value in attributes.items() if value is not None})
    if whole.get("id") is None:
        whole["id"] = str(uuid.uuid4())
    return whole
