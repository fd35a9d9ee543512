"""Rules of the question whether the API takes our credentials."""

from __future__ import annotations

import asyncio

from worker.api.credentials_watch import Admission, CredentialsWatch


class _Board:
    async def refuse(self, reason: str) -> None: ...

    async def admit(self) -> None: ...

    async def is_told(self) -> bool:
        return True


async def test_a_question_that_breaks_is_not_the_last_one() -> None:
    answers: list[Admission | Exception] = [
        RuntimeError("can't start new thread"),
        Admission.REFUSED,
        OSError(),
        Admission.TAKEN,
    ]

    async def ask() -> tuple[Admission, str]:
        answer = answers.pop(0)
        if not isinstance(answer, Admission):
            raise answer
        return answer, ""

    watch = CredentialsWatch(ask, _Board(), minimum_seconds=0.01, maximum_seconds=0.02)
    assert await watch.enter(lambda: False), "what can't be asked holds no worker back"
    async with asyncio.timeout(30):
        assert await watch.examine()
        while watch.is_refused:
            await asyncio.sleep(0.01)
    assert not answers
    await watch.aclose()
