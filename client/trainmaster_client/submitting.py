"""Adds commands to their streams, in pages, until Redis has said that it has each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from trainmaster_client.commands import CommandId
from trainmaster_client.names import COMMAND_FIELD
from trainmaster_client.steps import Ask, passes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trainmaster_client.commands import Message
    from trainmaster_client.names import Names
    from trainmaster_client.steps import Patience, Steps

# So much goes out in one round trip; more would fill the server's input buffer.
_PAGE: Final = 500
_PAGE_BYTES: Final = 4 * 1024 * 1024


def submit(names: Names, messages: Sequence[Message], patience: Patience) -> Steps[list[CommandId]]:
    """Adds messages in their order and returns the ids of their commands.

    One whose reply was lost is added again: the ledger takes the same command once.

    Raises:
        RedisUnavailableError: it names the commands that may not have been added.
    """
    added: dict[int, CommandId] = {}
    waiting = list(enumerate(messages))
    while waiting:
        page = _page(waiting)
        trouble: BaseException | None = None
        try:
            replies = yield Ask(tuple(_xadd(names, message) for _, message in page), raises=False)
        except (RedisError, OSError) as exc:
            trouble, replies = exc, []
        left = page[len(replies) :]
        for (index, message), reply in zip(page, replies, strict=False):
            if isinstance(reply, BaseException):
                left.append((index, message))
                if trouble is None or not passes(reply):
                    trouble = reply
            else:
                added[index] = CommandId(message.command_id, reply.decode(), message.stream)
        waiting = [*left, *waiting[len(page) :]]
        if trouble is None:
            patience.worked()
        else:
            ids = tuple(message.command_id for _, message in waiting)
            yield from patience.failed(trouble, ids)
    return [added[index] for index in range(len(messages))]


def _page(waiting: Sequence[tuple[int, Message]]) -> list[tuple[int, Message]]:
    """Returns what goes out next: one command at least."""
    size = 0
    page: list[tuple[int, Message]] = []
    for each in waiting[:_PAGE]:
        size += len(each[1].text)
        if page and size > _PAGE_BYTES:
            break
        page.append(each)
    return page


def _xadd(names: Names, message: Message) -> tuple[Any, ...]:
    return ("XADD", names.commands(message.stream), "*", COMMAND_FIELD, message.text)
