"""Which handler carries out which command: each handler says it with `handles`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from schemas.enums import CommandType

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from worker.handlers.outcome import Outcome
    from worker.handlers.run import Run


class Handler(Protocol):
    """Carries out one run of a command."""

    async def __call__(self, run: Run[Any]) -> Outcome:
        """Returns the outcome, or raises an error whose class decides the fate."""
        ...


H = TypeVar("H", bound=Handler)

_HANDLERS: dict[CommandType, Handler] = {}


def handles(command_type: CommandType) -> Callable[[H], H]:
    """Registers a handler for a type of command."""

    def register(handler: H) -> H:
        _HANDLERS[command_type] = handler
        return handler

    return register


def load_handlers() -> Mapping[CommandType, Handler]:
    """Returns the handlers of all modules of this package.

    Raises:
        LookupError: a command type has none.
    """
    package = __name__.rpartition(".")[0]
    for module in pkgutil.iter_modules(import_module(package).__path__):
        import_module(f"{package}.{module.name}")
    if missing := set(CommandType) - _HANDLERS.keys():
        raise LookupError(f"no handler for {', '.join(sorted(missing))}")
    return dict(_HANDLERS)
