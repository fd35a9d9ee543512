"""Rules of what a command declares: it is listed once, and whoever forgets a part is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from schemas.commands import COMMAND_CLASSES
from schemas.declaration import DeclaredCommand
from schemas.parameters import CommandData  # noqa: TC001 - pydantic reads it at run time
from worker.bootstrap.handlers import HANDLERS
from worker.queue import registry
from worker.queue.outcome import Outcome, Succeeded
from worker.queue.registry import handles, load_handlers

if TYPE_CHECKING:
    from worker.queue.run_context import RunContext


class Forgotten(DeclaredCommand):
    """Does nothing."""

    type: Literal["forgotten"]
    data: CommandData
    example = {"type": "forgotten", "data": {}}  # noqa: RUF012 - as its base declares it


def declared(base: type[DeclaredCommand]) -> set[type[DeclaredCommand]]:
    """Returns the commands below a class that the contract's own modules declare."""
    below = {found for each in base.__subclasses__() for found in (each, *declared(each))}
    return {each for each in below if each.__module__.startswith("schemas.")}


def test_every_command_that_is_declared_is_among_the_commands() -> None:
    assert declared(DeclaredCommand) == set(COMMAND_CLASSES.values())


def test_a_command_is_known_by_the_type_that_its_field_takes() -> None:
    assert Forgotten.command_type == "forgotten"
    assert all(each.example["type"] == name for name, each in COMMAND_CLASSES.items())


def test_each_command_has_a_handler() -> None:
    assert load_handlers(HANDLERS).keys() == COMMAND_CLASSES.keys()


def test_a_command_without_a_handler_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_HANDLERS", {})
    with pytest.raises(LookupError, match="no handler for attach, backfill"):
        load_handlers(())


def test_a_handler_of_a_command_that_no_union_lists_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "_HANDLERS", dict(load_handlers(HANDLERS)))

    @handles(cast("Any", Forgotten))
    async def forget(run: RunContext[Any]) -> Outcome:  # noqa: ARG001 - it never runs
        return Succeeded(None)

    with pytest.raises(LookupError, match="forgotten"):
        load_handlers(HANDLERS)
