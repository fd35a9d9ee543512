"""Sends commands through the stream and gives each its end, told by the events.

Every event is kept in a file as it comes, one JSON object a line.
"""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING, Any

import orjson

from demo.errors import CommandFailedError
from trainmaster_client import State

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trainmaster_client import AsyncClient, Event


class DemoClient:
    """The demo's commands and all their events.

    Args:
        journal: gets every event, in the order of the stream.
        on_event: is told every event, before whoever waits for it.

    Attributes:
        trainings: uuids of trainings that exist, by the id of their command.
    """

    def __init__(
        self,
        client: AsyncClient,
        journal: IO[bytes],
        on_event: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._client = client
        self._journal = journal
        self._on_event = on_event
        self._ends: dict[str, asyncio.Future[Any]] = {}
        self._started: dict[str, asyncio.Event] = {}
        self.trainings: dict[str, str] = {}
        self.commands: list[dict[str, Any]] = []
        self.events: list[dict[str, Any]] = []

    async def follow(self) -> None:
        """Reads events until it is cancelled."""
        async for event in self._client.events(follow=True):
            told = dict(event.attributes)
            self._journal.write(orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE))
            self._journal.flush()
            self.events.append(told)
            self._on_event(told)
            self._settle(event)

    async def carry_out(
        self,
        command_type: str,
        command_id: str,
        data: Mapping[str, Any],
        started: asyncio.Event | None = None,
    ) -> Any:
        """Sends one command and returns its result.

        Args:
            command_type: what to do.
            command_id: names it in every event.
            data: its parameters.
            started: is set once its training exists.

        Raises:
            CommandFailedError: it ended in another way.
        """
        command = {"type": command_type, "id": command_id, "data": dict(data)}
        end: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._ends[command_id] = end
        if started is not None:
            self._started[command_id] = started
        self.commands.append(command)
        await self._client.submit(command)
        return await end

    def _settle(self, event: Event) -> None:
        if event.state == State.STARTED and event.command_id in self._started:
            self.trainings[event.command_id] = event.data["training_uuid"]
            self._started[event.command_id].set()
        end = self._ends.get(event.command_id)
        if not event.is_end or end is None or end.done():
            return
        if event.state == State.SUCCEEDED:
            end.set_result(event.result)
        else:
            end.set_exception(CommandFailedError(event.attributes))
