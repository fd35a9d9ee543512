"""Several namespaces as one, for programs with an event loop.

One namespace is one slot of a Redis Cluster, and one Redis at most: where that is too little, its
work is spread over several, each with workers of its own. The id of a command says which of them
has it, so that whoever knows the id finds the command.

`trainmaster_client.blocking_partitions` is made of this module:
`python -m tools.blocking_client --write`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from trainmaster_client.aio import AsyncClient
from trainmaster_client.commands import Message, message_of, messages_of
from trainmaster_client.endings import WaitTimeoutError
from trainmaster_client.errors import RedisTroubleError
from trainmaster_client.names import partition_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from uuid import UUID

    from trainmaster_client.commands import CommandId
    from trainmaster_client.endings import Ending
    from trainmaster_client.reading import Status
    from trainmaster_client.waiting import Observer


class AsyncPartitions:
    """Sends each command to the namespace that its id names, and finds it there again.

    All programs must name the same namespaces: with another list, ids move, and a command that is
    sent again may be carried out twice. Events stand in each namespace's own streams: read them, or
    make consumers, by each of `clients`.

    Args:
        clients: one for each namespace, in one Redis or in several; they are closed with this.

    Raises:
        ValueError: there is none, two have the same namespace, or they have several `reply_to`.

    Example:
        >>> partitions = AsyncPartitions.of("redis+cluster://a,b", ["eu", "us"])  # doctest: +SKIP
        >>> await partitions.run("get_model", {"model_uuid": "…"})  # doctest: +SKIP
    """

    def __init__(self, clients: Iterable[AsyncClient]) -> None:
        self._clients: dict[str, AsyncClient] = {}
        for client in clients:
            if client.namespace in self._clients:
                raise ValueError(f"two clients have the namespace {client.namespace!r}")
            self._clients[client.namespace] = client
        replies = {client.reply_to for client in self._clients.values()}
        if len(replies) != 1:
            raise ValueError("partitions need one client at least, and all of them one reply_to")
        (self._reply_to,) = replies

    @classmethod
    def of(cls, redis_url: str, namespaces: Iterable[str], **options: Any) -> Self:
        """Returns the partitions of one Redis or Redis Cluster; `options` are those of the client.

        Raises:
            AddressError: the URL names no Redis, or files for TLS that can't be used.
            ValueError: no namespace is named, or one twice.
        """
        names = (namespaces,) if isinstance(namespaces, str) else namespaces
        return cls(AsyncClient(redis_url, namespace=name, **options) for name in names)

    async def __aenter__(self) -> Self:
        """Returns these."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the connections."""
        await self.close()

    @property
    def clients(self) -> dict[str, AsyncClient]:
        """The client of each namespace."""
        return dict(self._clients)

    def client_of(self, command_id: str) -> AsyncClient:
        """Returns the client of the namespace that has a command."""
        return self._clients[partition_of(command_id, self._clients)]

    async def close(self) -> None:
        """Closes the connections."""
        for client in self._clients.values():
            await client.close()

    async def ping(self) -> None:
        """Returns if each Redis answers.

        Raises:
            RedisTroubleError: one does not.
        """
        for client in self._clients.values():
            await client.ping()

    async def submit(
        self,
        command: str | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        **attributes: Any,
    ) -> CommandId:
        """Is the client's `submit`, in the command's namespace."""
        message = message_of(command, data, attributes, self._reply_to)
        (added,) = await self.submit_many([message])
        return added

    async def submit_many(self, commands: Iterable[Mapping[str, Any] | Message]) -> list[CommandId]:
        """Adds many commands, each in its namespace, and returns their ids in order.

        Raises:
            InvalidCommandError: one can't be sent; nothing was added.
            RedisTroubleError: it names those that may not have been added.
        """
        messages = messages_of(commands, self._reply_to)
        shares: dict[str, list[int]] = {}
        for index, message in enumerate(messages):
            namespace = partition_of(message.command_id, self._clients)
            shares.setdefault(namespace, []).append(index)
        added: dict[int, CommandId] = {}
        for namespace, share in shares.items():
            try:
                ids = await self._clients[namespace].submit_many(messages[each] for each in share)
            except RedisTroubleError as exc:
                # Those of namespaces that come later were not even tried.
                rest = [each for each in range(len(messages)) if each not in {*added, *share}]
                later = tuple(messages[each].command_id for each in rest)
                exc.command_ids = (*exc.command_ids, *later)
                raise
            added.update(zip(share, ids, strict=True))
        return [added[index] for index in range(len(messages))]

    async def run(
        self,
        command: str | Mapping[str, Any],
        data: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        **attributes: Any,
    ) -> Any:
        """Is the client's `run`, in the command's namespace."""
        command_id = await self.submit(command, data, **attributes)
        ending = await self.wait(command_id, timeout=timeout)
        return ending.result()

    async def wait(self, command_id: str, *, timeout: float | None = None) -> Ending:
        """Returns how a command ended, once it has."""
        return await self.client_of(command_id).wait(command_id, timeout=timeout)

    async def wait_all(
        self,
        command_ids: Iterable[str],
        *,
        timeout: float | None = None,
        observer: Observer | None = None,
    ) -> dict[str, Ending]:
        """Returns how commands ended, by their ids, once all have.

        Namespaces are waited for one after the other, so an observer is told of one at a time.

        Raises:
            WaitTimeoutError: it names those that have not ended in time.
            RedisUnavailableError: Redis was away for too long.
        """
        ids = (command_ids,) if isinstance(command_ids, str) else tuple(command_ids)
        shares: dict[str, list[str]] = {}
        for command_id in ids:
            shares.setdefault(partition_of(command_id, self._clients), []).append(command_id)
        begun = time.monotonic()
        endings: dict[str, Ending] = {}
        waiting: list[str] = []
        for namespace, share in shares.items():
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - begun))
            try:
                endings |= await self._clients[namespace].wait_all(
                    share, timeout=left, observer=observer
                )
            except WaitTimeoutError as exc:
                endings |= exc.endings
                waiting += exc.command_ids
        if waiting:
            raise WaitTimeoutError(waiting, timeout or 0.0, endings)
        return {command_id: endings[command_id] for command_id in ids}

    async def status(self, command_id: str) -> Status | None:
        """Returns what the ledger knows of a command, None where it knows no such id."""
        return await self.client_of(command_id).status(command_id)

    async def cancel(self, command_id: str, *, timeout: float | None = 60.0) -> dict[str, Any]:
        """Is the client's `cancel`, in the command's namespace."""
        return await self.client_of(command_id).cancel(command_id, timeout=timeout)

    async def resolve(
        self,
        command_id: str,
        *,
        created: str | UUID | None,
        by: str | None = None,
        timeout: float | None = 60.0,
    ) -> dict[str, Any]:
        """Is the client's `resolve`, in the command's namespace."""
        return await self.client_of(command_id).resolve(
            command_id, created=created, by=by, timeout=timeout
        )
