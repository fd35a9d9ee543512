"""The client for programs with an event loop.

`trainmaster_client.blocking` is made of this module: `python -m tools.blocking_client --write`.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from trainmaster_client.commands import Message, check_reply_to, message_of, messages_of
from trainmaster_client.consuming import ConsumerOptions, Group
from trainmaster_client.driver import PATIENCE_SECONDS, AsyncDriver, AsyncStop, consumer_name
from trainmaster_client.endings import WaitTimeoutError
from trainmaster_client.errors import RedisTroubleError
from trainmaster_client.names import Names
from trainmaster_client.reading import Cursor, status
from trainmaster_client.steps import Patience, ask, insist, insist_unless
from trainmaster_client.submitting import submit
from trainmaster_client.waiting import Wait

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping
    from types import TracebackType
    from uuid import UUID

    from trainmaster_client.commands import CommandId
    from trainmaster_client.endings import Ending
    from trainmaster_client.events import Event
    from trainmaster_client.reading import Status
    from trainmaster_client.steps import Steps
    from trainmaster_client.waiting import Observer

T = TypeVar("T")


class AsyncClient:
    """Sends commands, waits for their ends and reads events; tasks may share it.

    A call outlives a Redis that is away, restarts or fails over, for as long as `patience_seconds`.

    Args:
        redis_url: where Redis is: redis://, rediss://, sentinel://, redis+cluster:// or
            rediss+cluster://, as the workers' setting.
        namespace: of the workers.
        reply_to: commands that name no `replyto` get this one, and their ends are read from its
            stream: worth while where others send many commands.
        patience_seconds: for how long Redis may be away during a call.

    Raises:
        AddressError: the URL names no Redis, or files for TLS that can't be used.
        InvalidCommandError: workers would reject each command for its `reply_to`.

    Example:
        >>> async with AsyncClient("redis://127.0.0.1:6379") as client:  # doctest: +SKIP
        ...     await client.run("get_model", {"model_uuid": "…"})
    """

    def __init__(
        self,
        redis_url: str,
        *,
        namespace: str = "trainmaster",
        reply_to: str | None = None,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        check_reply_to(reply_to)
        self._names = Names(namespace)
        self._driver = AsyncDriver(redis_url, self._names.prefix)
        self._reply_to = reply_to
        self._patience_seconds = patience_seconds

    async def __aenter__(self) -> Self:
        """Returns the client."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._driver.close()

    @property
    def namespace(self) -> str:
        """The namespace of the workers."""
        return self._names.namespace

    @property
    def reply_to(self) -> str | None:
        """What commands that name no `replyto` get."""
        return self._reply_to

    async def ping(self) -> None:
        """Returns if Redis answers.

        Raises:
            RedisUnavailableError: Redis was away for too long.
            RedisRefusedError: it does not let this client in.
        """
        await self._driver.run(insist(self._patience(), partial(ask, "PING")))

    async def submit(
        self,
        command: str | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> CommandId:
        """Adds one command and returns its id, which names it in every event.

        Args:
            command: the whole command, or its type.
            data: the command's data, where `command` is a type.
            attributes: `id`, `priority`, `deadline` and so on; None is the same as absent. Without
                an id one is made, so that the same call again is another command; give one to
                make it safe to repeat.

        Raises:
            InvalidCommandError: it can't be written as JSON.
            RedisUnavailableError: it is not known whether the command was added; submit again with
                the same id.
        """
        message = message_of(command, data, attributes, self._reply_to)
        (added,) = await self._driver.run(submit(self._names, [message], self._patience()))
        return added

    async def submit_many(self, commands: Iterable[Mapping[str, Any] | Message]) -> list[CommandId]:
        """Adds many commands, hundreds in a round trip, and returns their ids in order.

        Raises:
            InvalidCommandError: one can't be sent; nothing was added.
            RedisUnavailableError: it names those that may not have been added.
        """
        messages = messages_of(commands, self._reply_to)
        return await self._driver.run(submit(self._names, messages, self._patience()))

    async def run(
        self,
        command: str | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **attributes: Any,
    ) -> Any:
        """Submits one command, waits for its end and returns its result.

        None too where the result was too large for an event or is no longer kept: what `wait`
        returns tells which.

        Args:
            command: the whole command, or its type.
            data: the command's data, where `command` is a type.
            timeout: seconds to wait, None for as long as it takes; the command goes on after that.
            attributes: as those of `submit`.

        Raises:
            CommandError: it failed, was rejected or was cancelled.
            WaitTimeoutError: it has not ended in time.
            RedisUnavailableError: Redis was away for too long.
        """
        command_id = await self.submit(command, data, **attributes)
        ending = await self.wait(command_id, timeout=timeout)
        return ending.result()

    async def wait(self, command_id: str, *, timeout: float | None = None) -> Ending:
        """Returns how a command ended, once it has.

        Raises:
            WaitTimeoutError: it has not ended in time.
            RedisUnavailableError: Redis was away for too long.
        """
        endings = await self.wait_all([command_id], timeout=timeout)
        return endings[command_id]

    async def wait_all(
        self,
        command_ids: Iterable[str],
        *,
        timeout: float | None = None,
        observer: Observer | None = None,
    ) -> dict[str, Ending]:
        """Returns how commands ended, by their ids, once all have.

        Args:
            command_ids: best as `submit_many` returned them.
            timeout: seconds for all of them.
            observer: is told what happens meanwhile.

        Raises:
            WaitTimeoutError: it names those that have not ended in time.
            RedisUnavailableError: Redis was away for too long.
        """
        wait = Wait(self._names, command_ids, reply_to=self._reply_to, observer=observer)
        on_trouble = None if observer is None else observer.on_trouble
        patience = Patience(self._patience_seconds, on_trouble)
        await self._driver.run(wait.until_ended(timeout, patience))
        if wait.waiting:
            raise WaitTimeoutError(wait.waiting, timeout or 0.0, wait.endings)
        return wait.endings

    async def status(self, command_id: str) -> Status | None:
        """Returns what the ledger knows of a command, None where it knows no such id.

        A command that no worker has read yet is not known.
        """
        steps = insist(self._patience(), partial(status, self._names, [command_id]))
        (found,) = await self._driver.run(steps)
        return found

    async def cancel(self, command_id: str, *, timeout: float | None = 60.0) -> dict[str, Any]:
        """Cancels a command; returns whether it was cancelled, and its state.

        Raises:
            CommandError: the ledger knows no such command, or it can't be cancelled.
            WaitTimeoutError: no worker has answered in time; it will be cancelled all the same.
        """
        found: dict[str, Any] = await self.run(
            "cancel", {"command_id": command_id}, timeout=timeout
        )
        return found

    async def resolve(
        self,
        command_id: str,
        *,
        created: str | UUID | None,
        by: str | None = None,
        timeout: float | None = 60.0,
    ) -> dict[str, Any]:
        """Says what became of a call that left a command in doubt; returns whether it was in one.

        Args:
            command_id: of the command.
            created: the uuid of what its lost call created; None where that created nothing, and is
                to be sent again, once.
            by: who says so.
            timeout: seconds to wait for a worker.

        Raises:
            CommandError: the ledger knows no such command.
            WaitTimeoutError: no worker has answered in time; it will be settled all the same.
        """
        said = {"not_created": True} if created is None else {"created": str(created)}
        data = {"command_id": command_id, "by": by, **said}
        found: dict[str, Any] = await self.run("resolve", data, timeout=timeout)
        return found

    async def events(
        self,
        types: Collection[str] = (),
        *,
        after: str | None = "0-0",
        follow: bool = False,
        reply_to: str | None = None,
        on_trouble: Callable[[BaseException], None] | None = None,
    ) -> AsyncGenerator[Event]:
        """Yields events, oldest first.

        Args:
            types: only these: whole types like `train.succeeded`, command types, or states.
            after: the `entry_id` of the last one that is known; None for what comes from now on.
            follow: waits for further events instead of ending with the newest.
            reply_to: the stream of these replies instead of the stream of all events.
            on_trouble: is told the first error each time Redis is away.

        Raises:
            RedisUnavailableError: Redis was away for too long.
            ValueError: one of the types is a pattern, or ends in what is no state.
        """
        stream = self._names.events(reply_to)
        patience = Patience(self._patience_seconds, on_trouble)
        cursor = Cursor(stream, types, after, patience)
        more = True
        while more or follow:
            self._driver.raise_if_cancelled()
            events, more = await self._driver.run(cursor.page(block=follow))
            for event in events:
                yield event

    def consumer(
        self, group: str, options: ConsumerOptions | None = None, *, name: str | None = None
    ) -> AsyncConsumer:
        """Returns one consumer of a group.

        Args:
            group: its name; each event is handled by one consumer of the group.
            options: how the group works.
            name: of this consumer, which no other one that runs has; made without one.
        """
        chosen = options or ConsumerOptions()
        own_name = name or consumer_name()
        return AsyncConsumer(self, Group(self._names, group, own_name, chosen, leaves=name is None))

    def _patience(self) -> Patience:
        return Patience(self._patience_seconds)


class AsyncConsumer:
    """One consumer of a group; made by `AsyncClient.consumer`."""

    def __init__(self, client: AsyncClient, group: Group) -> None:
        self._client = client
        self._group = group
        self._driver = client._driver  # noqa: SLF001 - its own other half
        self._stop = AsyncStop()

    async def run(self, handler: Callable[[Event], Awaitable[object]]) -> None:
        """Hands events to a handler, one after the other, until `stop` is called.

        An event is acknowledged once the handler has returned. Where it raises it is called again,
        after a pause; after the last try the event is parked. `Event.redelivered` tells that
        another call may have taken place before, by a consumer that died.

        Raises:
            RedisUnavailableError: Redis was away for too long.
        """
        self._group.read_own_again()
        while not self._stop.is_set():
            self._driver.raise_if_cancelled()
            events = await self._insist_unless_stopped(self._group.next_events)
            while events:
                if not await self._handle(events[0], handler):
                    return
                keep = partial(self._group.keep, events[1:])
                events = await self._insist_unless_stopped(keep)
        # Who is gone without leaving is taken out of the group by others, later.
        with suppress(RedisTroubleError):
            await self._driver.run(insist(Patience(0), self._group.leave))

    def stop(self) -> None:
        """Ends `run` once the handler has returned; from any task."""
        self._stop.set()

    async def _handle(self, event: Event, handler: Callable[[Event], Awaitable[object]]) -> bool:
        """Returns whether to go on; what was not handled stays with this consumer."""
        pauses = iter(self._group.pauses())
        while True:
            if self._stop.is_set():
                return False
            try:
                await handler(event)
            except Exception as exc:  # noqa: BLE001 - whatever it is, it is told or tried again
                pause = next(pauses, None)
                if pause is None:
                    park = partial(self._group.park, event, exc)
                    await self._insist(park)
                    return True
                await self._stop.pause(pause)
            else:
                await self._insist(partial(self._group.acknowledge, event))
                return True

    async def _insist(self, act: Callable[[], Steps[T]]) -> T:
        steps = insist(self._client._patience(), act)  # noqa: SLF001 - its own other half
        return await self._driver.run(steps)

    async def _insist_unless_stopped(self, act: Callable[[], Steps[T]]) -> T | None:
        patience = self._client._patience()  # noqa: SLF001 - its own other half
        steps = insist_unless(self._stop.is_set, patience, act)
        return await self._driver.run(steps)
