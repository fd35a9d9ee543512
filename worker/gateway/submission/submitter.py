"""Commands that came over HTTP are added to their streams, each id once."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar, cast

from redis.exceptions import ResponseError

from schemas.parsing import FINGERPRINT_BYTES
from worker.gateway.keys import submitted_key
from worker.gateway.submission.queue import PAGE, PAGE_BYTES, SubmitQueue
from worker.gateway.submission.submission import SubmitStatus
from worker.queue.ledger.connection import PASSING_TROUBLE
from worker.queue.ledger.lua import load_script
from worker.queue.ledger.redis_retry import next_pause
from worker.queue.ledger.refusals import is_brief, refusal_of, word_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from worker.gateway.submission.submission import Submission
    from worker.queue.ledger.keys import Keys

T = TypeVar("T")

# A request waits so long for a Redis that fails over, and is then told to come again.
PATIENCE_SECONDS: Final = 5.0


class Submitter:
    """Adds commands to the streams of a namespace."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._script = load_script(redis, "submit", "worker.gateway")
        # What a request has waited for in vain: others with the same refusal need not.
        self._lasting = ""
        self._queue = SubmitQueue(self.add_once)

    async def submit_one(self, submission: Submission) -> SubmitStatus:
        """Adds a command once Redis has acknowledged it; says what became of it.

        What several requests bring at a time goes to Redis together.

        Raises:
            redis.exceptions.RedisError: as `submit`.
        """
        return SubmitStatus(await self._patiently(lambda: self._queue.submit(submission)))

    async def submit(self, submissions: Sequence[Submission]) -> list[SubmitStatus]:
        """Adds commands, in order, once Redis has acknowledged each; says what became of them.

        Raises:
            redis.exceptions.RedisError: Redis was away for too long, or refuses them for a reason
                that does not pass by itself: it is not known which were added. The same again with
                the same ids adds none twice.
        """
        statuses: list[SubmitStatus] = []
        for page in _pages(submissions):
            found = await self._patiently(partial(self._add, page))
            statuses += [
                SubmitStatus.REFUSED if isinstance(each, ResponseError) else SubmitStatus(each)
                for each in found
            ]
        return statuses

    async def unread_type(self, command_id: str) -> str | None:
        """Returns the type of a command that was sent over HTTP lately; None where none was."""
        told = await self._redis.get(submitted_key(self._keys, command_id))
        return None if told is None else cast("bytes", told)[FINGERPRINT_BYTES:].decode()

    async def _add(self, page: Sequence[Submission]) -> list[int | ResponseError]:
        keys, arguments = self._keys_and_arguments(page)
        found: list[int | ResponseError] = await self._script(keys=keys, args=arguments)
        refused = [each for each in found if isinstance(each, ResponseError)]
        if refused and SubmitStatus.ADDED not in found:
            raise refused[0]
        return found

    async def add_once(self, page: Sequence[Submission]) -> list[int | ResponseError]:
        """Adds commands in one call; returns a status for each, or why its stream refuses it.

        Raises:
            redis.exceptions.RedisError: Redis is away, or refuses all; nothing is tried again.
        """
        keys, arguments = self._keys_and_arguments(page)
        found: list[int | ResponseError] = await self._script(keys=keys, args=arguments)
        return found

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Returns what adds commands, and waits for a failover that may be under way."""
        until = time.monotonic() + PATIENCE_SECONDS
        pause = 0.0
        while True:
            try:
                # A reply that was lost leaves the ids known, and made ids are known to workers.
                found = await act()
            except PASSING_TROUBLE as exc:
                refused = "" if refusal_of(exc) is None else word_of(exc)
                if not is_brief(exc) or (refused and refused == self._lasting):
                    raise
                pause = next_pause(pause)
                if time.monotonic() + pause > until:
                    self._lasting = refused
                    raise
                await asyncio.sleep(pause)
            else:
                self._lasting = ""
                return found

    def _keys_and_arguments(
        self, page: Sequence[Submission]
    ) -> tuple[list[str], list[str | bytes | int]]:
        arguments: list[str | bytes | int] = [self._keys.prefix]
        for each in page:
            arguments += [
                2 if each.is_bulk else 1,
                each.command_id,
                each.fingerprint,
                each.command.type,
                each.remembered_seconds,
                each.text,
            ]
        return [self._keys.commands, self._keys.bulk_commands], arguments


def _pages(submissions: Sequence[Submission]) -> list[list[Submission]]:
    pages: list[list[Submission]] = []
    size = 0
    for each in submissions:
        if not pages or len(pages[-1]) == PAGE or size + len(each.text) > PAGE_BYTES:
            pages.append([])
            size = 0
        pages[-1].append(each)
        size += len(each.text)
    return pages
