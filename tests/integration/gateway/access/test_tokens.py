"""Tokens: made once, found by their secret alone, refused when revoked or ended."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import orjson
import pytest

from worker.gateway.access.tokens import Scope, TokenError, Tokens
from worker.gateway.keys import tokens_key

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

PROJECT = "2F1C8A52-6F0F-4A57-9A0B-1F0A4D6C9E01"


class Calendar:
    """A clock that stands until it is set."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def tokens(redis: Redis, keys: Keys, calendar: Calendar) -> Tokens:
    return Tokens(redis, keys, now=calendar)


async def test_a_token_is_found_by_its_secret_and_by_no_other(tokens: Tokens) -> None:
    token, secret = await tokens.create("ci", [Scope.SUBMIT], ["train"], [PROJECT])
    assert await tokens.find(secret) == token
    assert token.types == {"train"}
    assert token.projects == {PROJECT.lower()}
    assert token.created_at_ms == 1_000_000_000
    for place in range(len(secret)):
        other = "b" if secret[place] != "b" else "c"
        assert await tokens.find(secret[:place] + other + secret[place + 1 :]) is None
    for wrong in ("", "tm_", token.prefix, f"{token.prefix}_", f"{secret}\n", f"{secret}a", "ü"):
        assert await tokens.find(wrong) is None


async def test_the_secret_is_kept_nowhere(tokens: Tokens, redis: Redis, keys: Keys) -> None:
    token, secret = await tokens.create("ci", [Scope.READ])
    kept = await cast("Awaitable[dict[bytes, bytes]]", redis.hgetall(tokens_key(keys)))
    assert list(kept) == [token.id.encode()]
    (record,) = kept.values()
    assert secret[16:] not in record.decode()
    assert orjson.loads(record)["digest"] == hashlib.sha256(secret.encode()).hexdigest()
    assert secret.startswith(f"{token.prefix}_")
    assert len(secret) == len(token.prefix) + 44


async def test_a_revoked_token_opens_nothing_and_is_still_listed(tokens: Tokens) -> None:
    assert not await tokens.any_exist()
    _, secret = await tokens.create("ci", [Scope.READ])
    other, other_secret = await tokens.create("night", [Scope.OPERATE, Scope.READ])
    assert await tokens.revoke("ci")
    assert await tokens.find(secret) is None
    assert await tokens.find(other_secret) == other
    assert {each.name: each.revoked for each in await tokens.list()} == {"ci": True, "night": False}
    assert await tokens.revoke("ci"), "again is no error"
    assert not await tokens.revoke("nobody")


async def test_that_there_was_a_token_is_known_after_it_was_revoked(tokens: Tokens) -> None:
    _, secret = await tokens.create("ci", [Scope.READ])
    await tokens.revoke(secret)
    assert await tokens.find(secret) is None
    assert await tokens.any_exist()


async def test_a_token_is_named_by_id_by_prefix_and_by_name_where_that_is_one(
    tokens: Tokens,
) -> None:
    first, _ = await tokens.create("ci", [Scope.READ])
    second, secret = await tokens.create("ci", [Scope.READ])
    with pytest.raises(TokenError, match=f"2 tokens.*{min(first.id, second.id)}"):
        await tokens.revoke("ci")
    assert await tokens.find(secret) == second
    assert await tokens.revoke(first.prefix)
    assert await tokens.revoke("ci"), "one that is valid has that name"
    assert await tokens.find(secret) is None


async def test_a_token_ends_at_its_time(tokens: Tokens, calendar: Calendar) -> None:
    token, secret = await tokens.create("ci", [Scope.READ], expires_at_ms=1_000_060_000)
    calendar.now += 59.9
    assert await tokens.find(secret) == token
    calendar.now += 0.1
    assert await tokens.find(secret) is None
    with pytest.raises(TokenError, match="later end"):
        await tokens.create("ci", [Scope.READ], expires_at_ms=1_000_060_000)


async def test_a_token_that_ends_is_not_made_to_last_by_its_secret_from_a_file(
    tokens: Tokens, calendar: Calendar
) -> None:
    _, secret = await tokens.create("ci", [Scope.READ], expires_at_ms=1_000_060_000)
    token, is_new = await tokens.adopt(secret, "ci", [Scope.READ, Scope.SUBMIT])
    assert (token.expires_at_ms, is_new) == (1_000_060_000, True)
    _, is_new = await tokens.adopt(secret, "ci", [Scope.READ, Scope.SUBMIT])
    assert not is_new
    calendar.now += 60
    assert await tokens.find(secret) is None
    with pytest.raises(TokenError, match="has ended"):
        await tokens.adopt(secret, "ci", [Scope.READ])


async def test_what_was_found_is_remembered_for_a_time_and_no_longer(
    redis: Redis, keys: Keys, calendar: Calendar, tokens: Tokens
) -> None:
    remembering = Tokens(redis, keys, remember_seconds=5, now=calendar)
    token, secret = await tokens.create("ci", [Scope.READ])
    assert await remembering.find(secret) == token
    await tokens.revoke("ci")
    assert await remembering.find(secret) == token
    assert await remembering.find(secret[:-1] + ("a" if secret[-1] != "a" else "b")) is None
    calendar.now += 5
    assert await remembering.find(secret) is None


async def test_a_record_that_cannot_be_read_opens_nothing_and_hides_no_other(
    tokens: Tokens, redis: Redis, keys: Keys
) -> None:
    token, secret = await tokens.create("ci", [Scope.READ])
    record = await cast("Awaitable[bytes]", redis.hget(tokens_key(keys), token.id))
    known, known_secret = await tokens.create("night", [Scope.READ])
    for damaged in (b"", b"{}", b"\xff", record.replace(b'"read"', b'"everything"')):
        await redis.hset(tokens_key(keys), token.id, damaged)
        assert await tokens.find(secret) is None
    # A record under another's id would give that one's rights to who holds this one's secret.
    await redis.hset(tokens_key(keys), "0" * 12, record)
    assert await tokens.find(secret.replace(token.id, "0" * 12)) is None
    assert await tokens.list() == [known]
    assert await tokens.find(known_secret) == known


@pytest.mark.parametrize(
    ("name", "scopes", "types", "projects", "said"),
    [
        ("", [Scope.READ], [], [], "printable"),
        ("a\nb", [Scope.READ], [], [], "printable"),
        ("x" * 65, [Scope.READ], [], [], "printable"),
        (f"tm_{'0' * 12}_{'a' * 43}", [Scope.READ], [], [], "holds a token's secret"),
        ("ci", [], [], [], "submit, read, operate"),
        ("ci", [Scope.SUBMIT], ["trian"], [], "train"),
        ("ci", [Scope.SUBMIT], [], ["mine"], "UUID"),
        ("ci", [Scope.SUBMIT, Scope.READ], [], [PROJECT], "does not tell its project"),
        ("ci", [Scope.OPERATE], [], [PROJECT], "does not tell its project"),
    ],
)
async def test_a_token_that_could_not_be_kept_to_is_not_made(
    tokens: Tokens,
    name: str,
    scopes: list[Scope],
    types: list[str],
    projects: list[str],
    said: str,
) -> None:
    with pytest.raises(TokenError, match=said):
        await tokens.create(name, scopes, types, projects)
    assert not await tokens.any_exist()


async def test_a_secret_that_somebody_else_made_is_a_token_as_ours_are(tokens: Tokens) -> None:
    secret = f"tm_{'0' * 12}_{'a' * 43}"
    token, is_new = await tokens.adopt(secret, "prometheus", [Scope.READ], ["train"])
    assert (token.id, token.name, is_new) == ("0" * 12, "prometheus", True)
    assert token.types == {"train"}
    assert await tokens.find(secret) == token
    assert await tokens.adopt(secret, "prometheus", [Scope.READ], ["train"]) == (token, False)
    wider, is_new = await tokens.adopt(secret, "prometheus", [Scope.READ, Scope.SUBMIT])
    assert wider.scopes == {Scope.READ, Scope.SUBMIT}
    assert (wider.types, is_new) == (frozenset(), True)
    assert await tokens.find(secret) == wider


async def test_a_secret_that_is_not_ours_or_taken_or_revoked_is_refused(tokens: Tokens) -> None:
    secret = f"tm_{'0' * 12}_{'a' * 43}"
    await tokens.adopt(secret, "prometheus", [Scope.READ])
    for wrong, said in (
        (f"tm_{'0' * 12}_{'a' * 42}", "not like one of ours"),
        (f"tm_{'A' * 12}_{'a' * 43}", "not like one of ours"),
        (f"{secret}\n", "not like one of ours"),
        (f"tm_{'0' * 12}_{'b' * 43}", f"another secret begins with tm_{'0' * 12}"),
    ):
        with pytest.raises(TokenError, match=said):
            await tokens.adopt(wrong, "prometheus", [Scope.READ])
    await tokens.revoke("prometheus")
    with pytest.raises(TokenError, match="was revoked"):
        await tokens.adopt(secret, "prometheus", [Scope.READ])
    assert await tokens.find(secret) is None


async def test_what_has_changed_of_a_token_counts_at_once_for_whoever_changed_it(
    redis: Redis, keys: Keys, calendar: Calendar
) -> None:
    remembering = Tokens(redis, keys, remember_seconds=5, now=calendar)
    secret = f"tm_{'0' * 12}_{'a' * 43}"
    await remembering.adopt(secret, "ci", [Scope.READ])
    assert await remembering.find(secret)
    wider, _ = await remembering.adopt(secret, "ci", [Scope.READ, Scope.SUBMIT])
    assert await remembering.find(secret) == wider
    assert await remembering.is_valid(wider)
    await remembering.revoke("ci")
    assert await remembering.find(secret) is None
    assert not await remembering.is_valid(wider)


async def test_whether_a_token_still_opens_what_it_did_is_told_by_its_end(
    tokens: Tokens, calendar: Calendar
) -> None:
    token, _ = await tokens.create("ci", [Scope.READ], expires_at_ms=1_000_060_000)
    assert await tokens.is_valid(token)
    calendar.now += 60
    assert not await tokens.is_valid(token)
    assert not await tokens.is_valid(replace(token, id="nobody"))


@pytest.mark.parametrize(
    ("scopes", "types", "opens"),
    [
        ([Scope.READ, Scope.SUBMIT, Scope.OPERATE], ["train", "attach"], True),
        ([Scope.READ, Scope.SUBMIT], [], True),
        ([Scope.SUBMIT], ["train"], False),
        ([Scope.READ, Scope.SUBMIT], ["attach"], False),
    ],
)
async def test_a_token_that_was_made_anew_opens_what_it_did_unless_it_opens_less(
    tokens: Tokens, scopes: list[Scope], types: list[str], *, opens: bool
) -> None:
    """Whoever watches with it may have begun hours ago."""
    secret = f"tm_{'0' * 12}_{'a' * 43}"
    before, _ = await tokens.adopt(secret, "ci", [Scope.READ, Scope.SUBMIT], ["train"])
    await tokens.adopt(secret, "ci", scopes, types)
    assert await tokens.is_valid(before) == opens


async def test_tokens_are_listed_in_the_order_in_which_they_were_made(
    tokens: Tokens, calendar: Calendar
) -> None:
    for name in ("c", "a", "b"):
        await tokens.create(name, [Scope.READ])
        calendar.now += 1
    assert [each.name for each in await tokens.list()] == ["c", "a", "b"]
