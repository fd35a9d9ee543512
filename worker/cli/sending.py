"""Puts drafts into the streams of commands, and tells what is known if that fails half way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from worker.ledger.connection import LEDGER_TROUBLE
from worker.ledger.keys import COMMAND_FIELD, CommandStream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from worker.cli.drafts import Draft
    from worker.ledger.keys import Keys

# So many commands go out in one round trip; more would fill the server's input buffer.
_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Sent:
    """A command in its stream, with the id of its entry there."""

    draft: Draft
    entry_id: str

    @property
    def stream(self) -> CommandStream:
        """Where it was added."""
        return CommandStream.of(self.draft.priority)

    @property
    def origin(self) -> str:
        """What its entry is called in ids of events."""
        return self.stream.origin(self.entry_id)


class SendError(Exception):
    """Not everything was surely added.

    Attributes:
        sent: what surely was.
        doubtful: what may have been; it is safe to send it again with the same ids.
    """

    def __init__(self, sent: Sequence[Sent], doubtful: Sequence[Draft]) -> None:
        super().__init__("not everything was added to the stream")
        self.sent = sent
        self.doubtful = doubtful


async def send(redis: Redis, keys: Keys, drafts: Sequence[Draft]) -> list[Sent]:
    """Adds every draft to the stream of its priority, in order.

    Raises:
        SendError: Redis failed meanwhile.
    """
    sent: list[Sent] = []
    for start in range(0, len(drafts), _PAGE):
        page = drafts[start : start + _PAGE]
        pipe = redis.pipeline(transaction=False)
        for each in page:
            stream = keys.stream(CommandStream.of(each.priority))
            pipe.xadd(stream, {COMMAND_FIELD: each.text})
        try:
            # Raised here, an error would repeat the command that it is about.
            replies = await pipe.execute(raise_on_error=False)
        except LEDGER_TROUBLE as exc:
            raise SendError(sent, page) from exc
        failed: list[tuple[Draft, Exception]] = []
        for each, reply in zip(page, replies, strict=True):
            if isinstance(reply, Exception):
                failed.append((each, reply))
            else:
                sent.append(Sent(each, reply.decode()))
        if failed:
            raise SendError(sent, [each for each, _ in failed]) from failed[0][1]
    return sent
