"""Whether the API takes this worker's credentials; while it does not, the worker claims nothing.

A worker asks once, by a signed read of its own, before it calls itself ready. A 401 later has it
ask again: if its own read is refused too, the credentials are wrong, and what it claimed goes back
as it was. It asks on, with growing pauses and with the key read anew, until the API takes it.
Other workers may have the right key, so this holds none but the worker itself.

An API that can't be asked holds nothing: only a read of the worker's own that is refused does.
After a few such questions the 401 counts against its command.
"""

from __future__ import annotations

import asyncio
import time
from contextvars import Context
from enum import Enum, auto
from typing import TYPE_CHECKING, Final, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)

# An API that does not answer by then says nothing of the credentials.
ASK_SECONDS: Final = 10.0
# So often is looked whether a person wants it asked at once.
LOOK_SECONDS: Final = 1.0
# After so many questions without an answer, commands are judged by their own replies again.
MOST_UNKNOWN: Final = 3


class Admission(Enum):
    """What the API says to a signed read."""

    TAKEN = auto()
    REFUSED = auto()
    UNKNOWN = auto()


class Board(Protocol):
    """Where people see that a worker's credentials are refused."""

    async def refuse(self, reason: str) -> None:
        """Tells it."""
        ...

    async def admit(self) -> None:
        """Tells that it is over."""
        ...

    async def is_told(self) -> bool:
        """Whether it stands there; who deletes it wants the API asked at once."""
        ...


class CredentialsWatch:
    """Asks the API whether it takes our credentials.

    Args:
        ask: one signed read; returns the answer and what the API said.
        board: where a refusal is shown; trouble with it changes nothing.
        minimum_seconds: between the first questions; each further pause is twice as long.
        maximum_seconds: between later ones.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[tuple[Admission, str]]],
        board: Board,
        *,
        minimum_seconds: float,
        maximum_seconds: float,
    ) -> None:
        self._ask = ask
        self._board = board
        self._minimum_seconds = minimum_seconds
        self._maximum_seconds = maximum_seconds
        self._asker: asyncio.Task[None] | None = None
        self._told = asyncio.Event()
        self.is_refused = False
        self.is_proved = False

    async def prove(self) -> bool:
        """Asks once whether the API takes the credentials; returns whether it ever has."""
        admission, _ = await self._asked()
        if admission is Admission.REFUSED:
            self.suspect()
        return self.is_proved

    async def enter(self, stopping: Callable[[], bool]) -> bool:
        """Returns once the API takes the credentials or can't be asked; False if told to stop."""
        admission, said = await self._asked()
        if admission is not Admission.REFUSED:
            if admission is Admission.UNKNOWN:
                log.warning("api.credentials_unknown", message=said)
            return True
        self._refuse(said)
        await self._board.refuse(said)
        self._start()
        while self.is_refused:
            if stopping():
                return False
            await asyncio.sleep(LOOK_SECONDS / 4)
        return True

    def suspect(self) -> None:
        """A request was answered 401: asks whether it is the credentials."""
        self._start()

    async def examine(self) -> bool:
        """Asks after a 401; returns whether the credentials are refused, as far as is known.

        Where the API can't be asked, it waits for a few questions and then returns False.
        """
        if not self.is_refused:
            self._start()
            await self._told.wait()
        return self.is_refused

    async def aclose(self) -> None:
        """Asks no more."""
        if self._asker is not None:
            self._asker.cancel()
            await asyncio.gather(self._asker, return_exceptions=True)

    def _start(self) -> None:
        if self._asker is None:
            self._told = told = asyncio.Event()
            # It outlives the run that it begins in, and none of its lines is about that.
            self._asker = asyncio.create_task(self._watch(), name="credentials", context=Context())
            self._asker.add_done_callback(lambda _: told.set())

    async def _watch(self) -> None:
        pause = self._minimum_seconds
        unknown = 0
        while True:
            admission, said = await self._asked()
            if admission is Admission.TAKEN:
                break
            # Once refused, an API that can't be asked has not taken them either.
            if admission is Admission.REFUSED or self.is_refused:
                self._refuse(said)
                self._told.set()
                await self._board.refuse(said)
                await self._pause(pause)
            else:
                unknown += 1
                if unknown >= MOST_UNKNOWN:
                    log.warning("api.credentials_unknown", message=said)
                    break
                await asyncio.sleep(pause)
            pause = min(self._maximum_seconds, pause * 2)
        if self.is_refused:
            await self._board.admit()
            self.is_refused = False
            log.warning("api.credentials_taken")
        self._asker = None

    async def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            await asyncio.sleep(min(rest, LOOK_SECONDS))
            if not await self._board.is_told():
                return

    async def _asked(self) -> tuple[Admission, str]:
        try:
            async with asyncio.timeout(ASK_SECONDS):
                admission, said = await self._ask()
                self.is_proved = self.is_proved or admission is Admission.TAKEN
                return admission, said
        except TimeoutError:
            return Admission.UNKNOWN, "the API did not answer in time"
        except Exception as exc:
            # Nobody else asks: this must not be the last question.
            log.exception("api.question_broken")
            return Admission.UNKNOWN, f"the API could not be asked: {type(exc).__name__}"

    def _refuse(self, said: str) -> None:
        if not self.is_refused:
            log.error(
                "api.credentials_refused",
                message=said,
                advice="check the key (ENCORD_SSH_KEY_FILE, or TRAINMASTER_BEARER_TOKEN), that its "
                "public half is registered, the region (ENCORD_DOMAIN) and this machine's clock; "
                "nothing is claimed until the API takes it, and no restart is needed",
            )
        self.is_refused = True
