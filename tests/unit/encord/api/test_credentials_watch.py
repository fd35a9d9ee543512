"""Rules of the question whether the API takes our credentials."""

from __future__ import annotations

import asyncio
from itertools import chain, repeat
from typing import TYPE_CHECKING

from structlog.contextvars import bound_contextvars, get_contextvars
from structlog.testing import capture_logs

from worker.encord.api.credentials_watch import MOST_UNKNOWN, Admission, CredentialsWatch

if TYPE_CHECKING:
    from collections.abc import Iterable


class _Board:
    def __init__(self) -> None:
        self.refusals: list[str] = []
        self.told = True
        self.admitted = 0

    async def refuse(self, reason: str) -> None:
        self.refusals.append(reason)

    async def admit(self) -> None:
        self.admitted += 1

    async def is_told(self) -> bool:
        return self.told


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
    with capture_logs() as lines:
        assert await watch.enter(lambda: False), "what can't be asked holds no worker back"
    assert [each["event"] for each in lines if each["log_level"] == "warning"] == [
        "api.credentials_unknown"
    ]
    async with asyncio.timeout(30):
        assert await watch.examine()
        while watch.is_refused:
            await asyncio.sleep(0.01)
    assert not answers
    await watch.aclose()


class _Api:
    """Answers the worker's own reads, one after the other."""

    def __init__(self, answers: Iterable[Admission]) -> None:
        self._answers = iter(answers)
        self.asked = 0

    async def ask(self) -> tuple[Admission, str]:
        self.asked += 1
        return next(self._answers), f"answer {self.asked}"


def watch_of(api: _Api, board: _Board) -> CredentialsWatch:
    return CredentialsWatch(api.ask, board, minimum_seconds=0.01, maximum_seconds=0.02)


async def test_a_401_holds_no_worker_whose_own_read_is_never_answered() -> None:
    """Else one odd 401 beside a slow list of models would stop everything until that answers."""
    api, board = _Api(repeat(Admission.UNKNOWN)), _Board()
    watch = watch_of(api, board)
    async with asyncio.timeout(30):
        watch.suspect()
        assert not await watch.examine(), "the 401 counts against its command"
    assert api.asked == MOST_UNKNOWN
    assert board.refusals == []
    async with asyncio.timeout(30):
        assert not await watch.examine()
    assert api.asked == 2 * MOST_UNKNOWN, "each later 401 is looked into again"
    await watch.aclose()


async def test_a_refusal_among_questions_without_an_answer_is_found() -> None:
    answers = [*repeat(Admission.UNKNOWN, MOST_UNKNOWN - 1), Admission.REFUSED]
    api, board = _Api(chain(answers, repeat(Admission.UNKNOWN))), _Board()
    watch = watch_of(api, board)
    async with asyncio.timeout(30):
        assert await watch.examine(), "what met the 401 goes back as it was"
    assert board.refusals[0] == f"answer {MOST_UNKNOWN}"
    await watch.aclose()


async def test_a_refused_worker_claims_nothing_until_the_api_takes_its_key() -> None:
    """However often it can't be asked in between, after pauses that have a longest one."""
    unknown = MOST_UNKNOWN + 13
    unanswered = repeat(Admission.UNKNOWN, unknown)
    api = _Api(chain([Admission.REFUSED], unanswered, [Admission.TAKEN]))
    board = _Board()
    watch = watch_of(api, board)
    async with asyncio.timeout(30):
        assert await watch.examine()
        while watch.is_refused:
            assert board.admitted == 0 or api.asked == unknown + 2
            await asyncio.sleep(0)
    assert (api.asked, board.admitted) == (unknown + 2, 1)
    await watch.aclose()


async def test_who_takes_the_refusal_off_the_board_has_the_api_asked_at_once() -> None:
    api, board = _Api([Admission.REFUSED, Admission.TAKEN]), _Board()
    watch = CredentialsWatch(api.ask, board, minimum_seconds=3600, maximum_seconds=3600)
    async with asyncio.timeout(60):
        assert await watch.examine()
        board.told = False
        while watch.is_refused:
            await asyncio.sleep(0.05)
    assert api.asked == 2
    await watch.aclose()


async def test_the_question_is_nothing_that_the_command_does_which_met_the_401() -> None:
    """It may be asked for hours, and its lines would carry that command's id."""
    bound = []

    async def ask() -> tuple[Admission, str]:
        bound.append(get_contextvars())
        return Admission.TAKEN, ""

    watch = CredentialsWatch(ask, _Board(), minimum_seconds=0.01, maximum_seconds=0.02)
    with bound_contextvars(command_id="one"):
        assert not await watch.examine()
    assert bound == [{}]
