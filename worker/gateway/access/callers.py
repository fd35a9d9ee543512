"""Who may do what: tokens with scopes or, where there is none, whoever is on this machine."""

from __future__ import annotations

import asyncio
import ipaddress
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from schemas.claim_check import ClaimCheck
from worker.gateway.access.tokens import Scope
from worker.gateway.problems import ProblemError
from worker.queue.ledger.connection import PASSING_TROUBLE, end_all

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from schemas.commands import Command
    from worker.gateway.access.tokens import Token, Tokens

# A token that was revoked is taken for so long by a gateway that has just seen it.
REMEMBER_SECONDS: Final = 1.0
# How soon whoever waits for an answer is told that the token was revoked meanwhile.
LOOK_SECONDS: Final = 2.0

CONTROL_TYPES: Final = frozenset({"cancel", "resolve"})
"""The commands that do to other commands what operators do."""

T = TypeVar("T")

_bearer = HTTPBearer(auto_error=False, description="A token of `trainmaster tokens create`.")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request; without a token it is somebody on this machine."""

    token: Token | None = None

    @property
    def name(self) -> str:
        """Who it is, for events and logs."""
        return "this machine" if self.token is None else self.token.name

    def check_command(self, command: Command | ClaimCheck) -> None:
        """Returns if the caller may send this command.

        Raises:
            ProblemError: its token is limited to others.
        """
        token = self.token
        if token is None:
            return
        # By its type: its data may lie elsewhere.
        if command.type in CONTROL_TYPES and Scope.OPERATE not in token.scopes:
            raise _forbidden(f"The command {command.type} needs a token with the scope operate.")
        if token.types and command.type not in token.types:
            raise _forbidden(
                f"This token may send {', '.join(sorted(token.types))}, not {command.type}."
            )
        if token.projects:
            projects = projects_of(command)
            if not projects:
                raise _forbidden(
                    f"This token is limited to projects, and {command.type} names none here."
                )
            foreign = projects - token.projects
            if foreign:
                raise _forbidden(f"This token may not use the project {min(foreign)}.")

    def sees(self, command_type: str | None) -> bool:
        """Tells whether the caller may know of commands of a type."""
        return self.token is None or not self.token.types or command_type in self.token.types

    def check_unlimited(self) -> None:
        """Returns if the caller may do what is about commands of all types.

        Raises:
            ProblemError: its token is limited to some.
        """
        if self.token is not None and self.token.types:
            raise _forbidden("This is about commands of every type, and this token has a few.")


def projects_of(command: Command | ClaimCheck) -> frozenset[str]:
    """Returns the projects that a command names, none where its data lie elsewhere."""
    if isinstance(command, ClaimCheck):
        return frozenset()
    data = command.data
    named = getattr(data, "project_uuid", None)
    if named is not None:
        return frozenset({str(named)})
    if command.type == "train":
        return frozenset(map(str, data.features_mapping))  # type: ignore[union-attr] # of Train
    return frozenset()


class Access:
    """Knows callers by their tokens.

    Args:
        tokens: of the namespace.
        is_open: whether callers need no token for as long as none exists: only where the gateway
            listens on loopback alone.
    """

    def __init__(self, tokens: Tokens, *, is_open: bool) -> None:
        self._tokens = tokens
        self._is_open = is_open
        self._checked_at = 0.0

    async def caller(self, request: Request, scope: Scope | None) -> Caller:
        """Returns who sends a request.

        Args:
            request: what is sent.
            scope: that their token must have; None where any will do.

        Raises:
            ProblemError: nobody who may do this.
        """
        secret = _secret_of(request)
        if secret is None:
            if not await self._needs_no_token():
                raise _unauthorized("This needs a token: send Authorization: Bearer <token>.")
            _check_local(request)
            return Caller()
        token = await self._tokens.find(secret)
        if token is None:
            raise _unauthorized("The token is not known, has expired or was revoked.")
        if scope is not None and scope not in token.scopes:
            raise _forbidden(f"This needs a token with the scope {scope}.")
        return Caller(token)

    async def check_still(self, caller: Caller) -> None:
        """Returns if a caller who was let in may go on: what they began can last for hours.

        Raises:
            ProblemError: their token was revoked, has ended or opens less, or there is one now.
        """
        if caller.token is None:
            if not await self._needs_no_token():
                raise _unauthorized("This needs a token by now: one was made.")
        elif not await self._tokens.is_valid(caller.token):
            raise _unauthorized("The token was revoked or changed, or has ended meanwhile.")

    async def while_allowed(self, caller: Caller, answer: Coroutine[Any, Any, T]) -> T:
        """Returns an answer that may take a minute, to a caller who may have it to the end.

        Raises:
            ProblemError: their token was revoked, has ended or opens less, or there is one now.
        """
        work = asyncio.ensure_future(answer)
        try:
            while True:
                await asyncio.wait({work}, timeout=LOOK_SECONDS)
                is_done = work.done()
                with suppress(*PASSING_TROUBLE):
                    await self.check_still(caller)
                if is_done:
                    return work.result()
        finally:
            await end_all([work])

    async def _needs_no_token(self) -> bool:
        if self._is_open and time.monotonic() - self._checked_at > REMEMBER_SECONDS:
            # Once there is one it stays so: the last that is revoked opens nothing.
            self._is_open = not await self._tokens.any_exist()
            self._checked_at = time.monotonic()
        return self._is_open


def needs(scope: Scope | None) -> Callable[..., Awaitable[Caller]]:
    """Returns the dependency of a route that a caller with this scope may use; None for any."""

    async def caller(
        request: Request,
        # For the document alone, which names the scheme.
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Caller:
        gateway = request.app.state.gateway
        found: Caller = await gateway.access.caller(request, scope)
        await gateway.rates.take(request, found)
        return found

    return caller


def _guard(scope: Scope | None) -> Any:
    # The document names the scope, as OpenAPI 3.1 has it for schemes of any kind.
    return Security(needs(scope), scopes=[] if scope is None else [str(scope)])


Calls = Annotated[Caller, _guard(None)]
Submits = Annotated[Caller, _guard(Scope.SUBMIT)]
Reads = Annotated[Caller, _guard(Scope.READ)]
Operates = Annotated[Caller, _guard(Scope.OPERATE)]


@lru_cache(maxsize=64)  # each request names its host
def is_loopback(host: str) -> bool:
    """Tells whether an address, as one would set it, is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _secret_of(request: Request) -> str | None:
    """Returns the token that a request sends, None where it has no such header.

    Raises:
        ProblemError: the header is none of a token.
    """
    said = request.headers.get("authorization")
    if said is None:
        return None
    scheme, _, secret = said.partition(" ")
    secret = secret.strip()
    if scheme.lower() != "bearer" or not secret:
        raise _unauthorized("The header Authorization must be: Bearer <token>.")
    return secret


def _check_local(request: Request) -> None:
    """Refuses what a page in somebody's browser sends to a gateway that asks for no token.

    Raises:
        ProblemError: it comes from a page, or by a name that is not this machine's.
    """
    host = request.headers.get("host", "")
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "none")
    own = f"{request.scope['scheme']}://{host}"
    if not is_loopback(name) or origin not in {None, own} or site not in {"none", "same-origin"}:
        raise _forbidden(
            "Without a token the gateway answers programs on this machine only, by the address "
            "127.0.0.1 or localhost; make a token by `trainmaster tokens create`."
        )


def _unauthorized(detail: str) -> ProblemError:
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": "Bearer"})


def _forbidden(detail: str) -> ProblemError:
    return ProblemError(403, "forbidden", detail)
