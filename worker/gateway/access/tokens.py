"""Tokens of the gateway: who may ask what. Redis has a digest of each secret, never the secret."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import time
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, cast
from uuid import UUID

import structlog
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, with_config

from schemas.commands import COMMAND_CLASSES
from schemas.suggestions import unknown
from worker.gateway.keys import tokens_key

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

log = structlog.get_logger(__name__)

_ID_CHARACTERS: Final = string.digits + string.ascii_lowercase
_ID_LENGTH: Final = 12
# 256 bits, in 43 characters.
_SECRET_BYTES: Final = 32
_SECRET: Final = re.compile(r"tm_([0-9a-z]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_PREFIX: Final = "tm_"
_LONGEST_NAME: Final = 64
# What an unknown id is compared with, so that it takes as long as a known one.
_NO_DIGEST: Final = "0" * 64


class Scope(StrEnum):
    """What a token may do."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"


class TokenError(ValueError):
    """A token can't be made or named so; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token; its secret is not.

    Attributes:
        types: the command types that it is limited to; empty for all.
        projects: UUIDs of the projects that it is limited to; empty for all.
        expires_at_ms: when it ends, None for never.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    types: frozenset[str]
    projects: frozenset[str]
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked: bool = False

    @property
    def prefix(self) -> str:
        """How people tell it from others: the beginning of its secret."""
        return f"{_PREFIX}{self.id}"

    def opens_all_of(self, before: Token) -> bool:
        """Whether it opens whatever it opened as it was before."""
        return (
            self.scopes >= before.scopes
            and _covers(self.types, before.types)
            and _covers(self.projects, before.projects)
        )

    def is_valid(self, now_ms: int) -> bool:
        """Whether its secret opens anything at that time."""
        return not self.revoked and (self.expires_at_ms is None or now_ms < self.expires_at_ms)


def _covers(limits: frozenset[str], before: frozenset[str]) -> bool:
    """Whether limits, of which none is all, leave what others left."""
    return not limits or (bool(before) and limits >= before)


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True, slots=True)
class _Record:
    """A token as Redis has it."""

    token: Token
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = field(repr=False)


_RECORDS: Final = TypeAdapter(_Record)


class Tokens:
    """The tokens of a namespace.

    Args:
        redis: where they are.
        keys: of the namespace.
        remember_seconds: for how long a token that was found is not looked up again; a token that
            is revoked opens for as long at most.
        now: seconds since 1970.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        remember_seconds: float = 0.0,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._key = tokens_key(keys)
        self._remember_seconds = remember_seconds
        self._now = now
        self._found: dict[str, tuple[float, _Record]] = {}

    async def create(
        self,
        name: str,
        scopes: Collection[Scope],
        types: Collection[str] = (),
        projects: Collection[str] = (),
        expires_at_ms: int | None = None,
    ) -> tuple[Token, str]:
        """Makes a token; returns it and its secret, which nobody can be told again.

        Raises:
            TokenError: there can be no such token.
        """
        now_ms = int(self._now() * 1000)
        if expires_at_ms is not None and expires_at_ms <= now_ms:
            raise TokenError("the token would end before it is made: give a later end")
        token_id = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(_ID_LENGTH))
        secret = f"{_PREFIX}{token_id}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        token = _token(token_id, name, scopes, types, projects, now_ms)
        token = replace(token, expires_at_ms=expires_at_ms)
        await self._write(_Record(token, _digest(secret)))
        return token, secret

    async def adopt(
        self,
        secret: str,
        name: str,
        scopes: Collection[Scope],
        types: Collection[str] = (),
        projects: Collection[str] = (),
    ) -> tuple[Token, bool]:
        """Makes the token of a secret that somebody else made, and may make it again and again.

        One that is there already keeps its end.

        Returns:
            The token, and whether anything was written: not where it is there already.

        Raises:
            TokenError: there can be no such token, or it was revoked.
        """
        written = _SECRET.fullmatch(secret)
        if written is None:
            raise TokenError(
                "the secret is not like one of ours: tm_, 12 of 0-9a-z, _, and 32 random bytes in "
                "base64url"
            )
        token = _token(written[1], name, scopes, types, projects, int(self._now() * 1000))
        digest = _digest(secret)
        known = await self._record(token.id)
        if known is not None:
            if not hmac.compare_digest(known.digest, digest):
                raise TokenError(f"another secret begins with {token.prefix}: make a new one")
            if not known.token.is_valid(token.created_at_ms):
                raise TokenError(f"{token.prefix} was revoked or has ended: make a new secret")
            # What ends is not made to last by whoever says it again.
            token = replace(
                token,
                created_at_ms=known.token.created_at_ms,
                expires_at_ms=known.token.expires_at_ms,
            )
            if token == known.token:
                return token, False
        await self._write(_Record(token, digest))
        self._found.pop(token.id, None)
        return token, True

    async def find(self, secret: str) -> Token | None:
        """Returns the token of a secret; None where it is unknown, revoked or has ended."""
        written = _SECRET.fullmatch(secret)
        if written is None:
            return None
        record = await self._record(written[1])
        known = _NO_DIGEST if record is None else record.digest
        if not hmac.compare_digest(known, _digest(secret)) or record is None:
            return None
        return record.token if record.token.is_valid(int(self._now() * 1000)) else None

    async def is_valid(self, token: Token) -> bool:
        """Tells whether a token that was found before still opens what it did."""
        record = await self._record(token.id)
        if record is None or not record.token.is_valid(int(self._now() * 1000)):
            return False
        return record.token.opens_all_of(token)

    async def revoke(self, id_or_name: str) -> Token | None:
        """Revokes a token; returns it, revoked now or before, and None where there is none.

        Args:
            id_or_name: a name, an id, or what a secret begins with, up to all of it.

        Raises:
            TokenError: several valid tokens have this name.
        """
        record = await self._named(id_or_name)
        if record is None:
            return None
        await self._write(replace(record, token=replace(record.token, revoked=True)))
        self._found.pop(record.token.id, None)
        return record.token

    async def list(self) -> list[Token]:
        """Returns all tokens, oldest first; those that have ended, too."""
        tokens = [record.token for record in await self._all()]
        return sorted(tokens, key=lambda token: (token.created_at_ms, token.id))

    async def any_exist(self) -> bool:
        """Returns whether a token was ever made.

        One that was revoked counts: or taking the last token back would open the gateway to all.
        """
        return bool(await self._redis.exists(self._key))

    async def _record(self, token_id: str) -> _Record | None:
        known = self._found.get(token_id)
        if known is not None and self._now() < known[0]:
            return known[1]
        self._found.pop(token_id, None)
        text = await cast("Awaitable[bytes | None]", self._redis.hget(self._key, token_id))
        record = None if text is None else _read(token_id, text)
        if record is not None and self._remember_seconds:
            # As many as there are tokens: what has no record is not remembered.
            self._found[token_id] = (self._now() + self._remember_seconds, record)
        return record

    async def _named(self, id_or_name: str) -> _Record | None:
        written = _SECRET.fullmatch(id_or_name)
        token_id = written[1] if written else id_or_name.removeprefix(_PREFIX)
        records = await self._all()
        if by_id := [each for each in records if each.token.id == token_id]:
            return by_id[0]
        named = [each for each in records if each.token.name == id_or_name]
        valid = [each for each in named if not each.token.revoked]
        if len(valid) > 1:
            ids = ", ".join(sorted(each.token.id for each in valid))
            raise TokenError(
                f"{len(valid)} tokens are called {id_or_name!r}: name one by its id, {ids}"
            )
        return next(iter(valid or named), None)

    async def _all(self) -> tuple[_Record, ...]:
        found = await cast("Awaitable[dict[bytes, bytes]]", self._redis.hgetall(self._key))
        records = (_read(each.decode(errors="replace"), text) for each, text in found.items())
        return tuple(record for record in records if record is not None)

    async def _write(self, record: _Record) -> None:
        text = _RECORDS.dump_json(record)
        await self._redis.hset(self._key, record.token.id, text)


def _digest(secret: str) -> str:
    # The secret is random and long: it takes no slow hash to keep it from being guessed.
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(
    token_id: str,
    name: str,
    scopes: Collection[Scope],
    types: Collection[str],
    projects: Collection[str],
    created_at_ms: int,
) -> Token:
    _check(name, scopes, types)
    return Token(
        id=token_id,
        name=name,
        scopes=frozenset(scopes),
        types=frozenset(types),
        projects=_projects(projects, scopes),
        created_at_ms=created_at_ms,
    )


def _read(token_id: str, text: bytes) -> _Record | None:
    """Returns a record; one that cannot be read, or is another token's, opens nothing."""
    try:
        record = _RECORDS.validate_json(text)
    except ValidationError:
        log.warning("token.unreadable", token_id=token_id)
        return None
    return record if record.token.id == token_id else None


def _check(name: str, scopes: Collection[Scope], types: Collection[str]) -> None:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or name.strip() != name:
        raise TokenError(f"a token's name is 1 to {_LONGEST_NAME} printable characters")
    if _SECRET.search(name):
        raise TokenError("this name holds a token's secret: give another, for names are shown")
    if not scopes:
        raise TokenError(f"a token needs a scope: {', '.join(Scope)}")
    for each in types:
        if each not in COMMAND_CLASSES:
            raise TokenError(unknown("command type", each, COMMAND_CLASSES))


def _projects(projects: Collection[str], scopes: Collection[Scope]) -> frozenset[str]:
    if not projects:
        return frozenset()
    if set(scopes) != {Scope.SUBMIT}:
        raise TokenError(
            "a token that is limited to projects can only have the scope submit: what there is to "
            "read and to operate does not tell its project, so the limit could not be kept. Make a "
            "second token for the other scopes"
        )
    return frozenset(_uuid(each) for each in projects)


def _uuid(project: str) -> str:
    try:
        return str(UUID(project))
    except ValueError:
        raise TokenError(f"{project!r} is no UUID of a project") from None
