"""Commands that come one by one go to Redis together: all that come while a call is under way.

None waits for others to come: the first is sent at once, and what has come when it is answered is
the next call. So the more come, the less Redis and this process do for each.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from redis.exceptions import ResponseError

from worker.queue.ledger.connection import PASSING_TROUBLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from worker.gateway.submission.submission import Submission

# Of one call: others are answered between two, and Redis' trouble leaves no more in doubt.
PAGE: Final = 256
PAGE_BYTES: Final = 4 * 1024 * 1024

_Waiting = tuple["Submission", "asyncio.Future[int]"]


class SubmitQueue:
    """Commands of many requests, each of which is answered by itself.

    Args:
        call: adds commands; returns for each its status, or the error that is of this one alone.
            It is called again only once it has returned.
    """

    def __init__(
        self, call: Callable[[Sequence[Submission]], Awaitable[Sequence[int | ResponseError]]]
    ) -> None:
        self._call = call
        self._waiting: list[_Waiting] = []
        self._adding: asyncio.Task[None] | None = None

    async def submit(self, submission: Submission) -> int:
        """Returns the status of a command once Redis has acknowledged it.

        Raises:
            redis.exceptions.RedisError: Redis is away or refuses it; nothing is tried again.
        """
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append((submission, answer))
        if self._adding is None:
            self._adding = asyncio.create_task(self._add_all())
        return await answer

    async def _add_all(self) -> None:
        try:
            while self._waiting:
                await self._add(self._take_page())
        finally:
            self._adding = None
            # None but a cancellation, of the whole process, leaves any.
            for _, answer in self._waiting:
                answer.cancel()
            self._waiting = []

    async def _add(self, page: Sequence[_Waiting]) -> None:
        answers = [answer for _, answer in page]
        try:
            found = await self._call([submission for submission, _ in page])
        except ResponseError as exc:
            _fail(answers, exc)
        except PASSING_TROUBLE as exc:
            # A Redis that has stopped answers nobody: none waits for it twice.
            waiting, self._waiting = self._waiting, []
            _fail([*answers, *(answer for _, answer in waiting)], exc)
        except BaseException as exc:
            _fail(answers, exc)
            raise
        else:
            for answer, status in zip(answers, found, strict=True):
                if isinstance(status, ResponseError):
                    _fail([answer], status)
                elif not answer.done():
                    answer.set_result(status)

    def _take_page(self) -> list[_Waiting]:
        size = count = 0
        for submission, _ in self._waiting[:PAGE]:
            size += len(submission.text)
            if count and size > PAGE_BYTES:
                break
            count += 1
        page, self._waiting = self._waiting[:count], self._waiting[count:]
        return page


def _fail(answers: Sequence[asyncio.Future[int]], error: BaseException) -> None:
    for answer in answers:
        # Who asked may be gone.
        if not answer.done():
            answer.set_exception(error)
