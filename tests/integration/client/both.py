"""The client with and without an event loop, so that one test tries both."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any, Self

from trainmaster_client import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from trainmaster_client import AsyncConsumer, Event


class Looped:
    """An `AsyncClient` whose methods are called as those of `Client` are."""

    def __init__(self, redis_url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = self._runner.run(self._made(redis_url, options))

    @staticmethod
    async def _made(redis_url: str, options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(redis_url, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            found = method(*arguments, **options)
            if inspect.isasyncgen(found):
                return self._each(found)
            return self._runner.run(found) if inspect.iscoroutine(found) else found

        return call

    def _each(self, found: Any) -> Iterator[Event]:
        try:
            while True:
                try:
                    yield self._runner.run(anext(found))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(found.aclose())

    def consumer(self, *arguments: Any, **options: Any) -> LoopedConsumer:
        """Returns a consumer whose handler is a plain function."""
        return LoopedConsumer(self._client.consumer(*arguments, **options), self._runner)


class LoopedConsumer:
    """An `AsyncConsumer` that is used as a `Consumer` is."""

    def __init__(self, consumer: AsyncConsumer, runner: asyncio.Runner) -> None:
        self._consumer = consumer
        self._runner = runner

    def run(self, handler: Callable[[Event], object]) -> None:
        """Hands events to a handler."""

        async def handle(event: Event) -> None:
            await asyncio.sleep(0)
            handler(event)

        self._runner.run(self._consumer.run(handle))

    def stop(self) -> None:
        """Ends `run`."""
        self._consumer.stop()


KINDS: dict[str, Callable[..., Any]] = {"blocking": Client, "looped": Looped}
