"""What shells offer when one presses Tab: types, parameters, values and ids.

A completion must never disturb the line that is being typed: if Redis is away, or a setting is
wrong, it offers nothing and prints nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class

from schemas.commands import COMMAND_CLASSES
from schemas.fields import parameters_of, value_choices
from worker.backfill.keys import backfills_key
from worker.cli.context import LedgerContext
from worker.errors import SettingError
from worker.queue.ledger.dead_letters import DeadLetters
from worker.queue.ledger.queries import LedgerReader, RowChoice

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from click import Context, Parameter
    from redis.asyncio import Redis

    from worker.queue.ledger.keys import Keys

# Nobody picks from more, and nobody waits for longer.
_MOST: Final = 500
_SECONDS: Final = 2.0

_ADDS: Final = "COMPREPLY+=($value)"


@add_completion_class
class Bash(BashComplete):
    """As click's, but ids are not taken for patterns, and no blank comes after `key=`."""

    source_template = BashComplete.source_template.replace(
        _ADDS,
        'COMPREPLY+=("$value")\n            [[ $value == *= ]] && compopt -o nospace 2>/dev/null',
    )


def complete_ids(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offers the ids of the commands that changed last."""
    return _offer(ctx, param, incomplete, lambda redis, keys: _rows(redis, keys, RowChoice()))


def complete_open_ids(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offers the ids of commands that have not ended."""
    return _offer(
        ctx, param, incomplete, lambda redis, keys: _rows(redis, keys, RowChoice(ended=False))
    )


def complete_letters(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offers the keys of dead letters, and the ids of their commands."""
    return _offer(ctx, param, incomplete, _letters)


def complete_backfills(ctx: Context, param: Parameter, incomplete: str) -> list[CompletionItem]:
    """Offers the ids of backfills, the newest first."""
    return _offer(ctx, param, incomplete, _backfills)


def complete_types(
    ctx: Context,  # noqa: ARG001 - click's signature
    param: Parameter,  # noqa: ARG001 - the same
    incomplete: str,
) -> list[CompletionItem]:
    """Offers types of commands, else files."""
    types = [
        CompletionItem(name, help=(each.__doc__ or "").partition("\n")[0])
        for name, each in COMMAND_CLASSES.items()
        if name.startswith(incomplete)
    ]
    return types or [CompletionItem(incomplete, type="file")]


def complete_pairs(
    ctx: Context,
    param: Parameter,
    incomplete: str,
) -> list[CompletionItem]:
    """Offers the parameters of the type as `key=`, and behind that the values where it has some."""
    what = ctx.params.get("what")
    if what not in COMMAND_CLASSES:
        return []
    choices = value_choices(what)
    key, equals, begun = incomplete.partition("=")
    if equals:
        return [CompletionItem(f"{key}={each}") for each in _begun(choices.get(key, ()), begun)]
    given = list(ctx.params.get(str(param.name)) or ())
    # Bash takes `key=value` for three words, and replaces the last with what is offered.
    split = given[-2:-1] if given[-1:] == ["="] else given[-1:]
    if split and split[0] in choices:
        return [CompletionItem(each) for each in _begun(choices[split[0]], incomplete)]
    return [
        CompletionItem(f"{each.name}=", help=each.meaning)
        for each in parameters_of(what)
        if each.name.startswith(incomplete)
    ]


def _begun(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _offer(
    ctx: Context,
    param: Parameter,
    incomplete: str,
    look: Callable[[Redis, Keys], Awaitable[list[tuple[str, str]]]],
) -> list[CompletionItem]:
    """Offers names from Redis with their help, except those that are in the line already."""
    ledger = LedgerContext(ctx.params.get("redis_url"), ctx.params.get("namespace"))
    found: list[tuple[str, str]] = []
    try:
        for one in ledger.partitions:

            async def ask(redis: Redis, keys: Keys = one.keys) -> list[tuple[str, str]]:
                return await asyncio.wait_for(look(redis, keys), _SECONDS)

            found += one.run(ask)
    except (click.ClickException, SettingError):
        return []
    given = ctx.params.get(str(param.name)) or ()
    return [
        CompletionItem(name, help=told)
        for name, told in found
        # Others chose them: what can't be printed would break the lines that shells read.
        if name.startswith(incomplete) and name not in given and name.isprintable()
    ]


async def _rows(redis: Redis, keys: Keys, choice: RowChoice) -> list[tuple[str, str]]:
    rows = await LedgerReader(redis, keys).newest(_MOST, choice)
    return [(row.id, f"{row.type} {row.state}") for row in rows if row.group is None]


async def _letters(redis: Redis, keys: Keys) -> list[tuple[str, str]]:
    letters = DeadLetters(redis, keys).list(newest_first=True, limit=_MOST)
    found = [letter async for letter in letters]
    named = {letter.command_id: letter.reason for letter in found}
    return [*((letter.key, letter.reason) for letter in found), *named.items()]


async def _backfills(redis: Redis, keys: Keys) -> list[tuple[str, str]]:
    ids = cast("list[bytes]", await redis.zrange(backfills_key(keys), 0, _MOST - 1, desc=True))
    return [(each.decode(), "a backfill") for each in ids]
