"""Which handler carries out which command: each handler says it with `handles`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from schemas.enums import CommandType

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from worker.queue.outcome import Outcome
    from worker.queue.run_context import RunContext


class Handler(Protocol):
    """Carries out one run of a command."""

    async def __call__(self, run: RunContext[Any]) -> Outcome:
        """Returns the outcome, or raises an error whose class decides what follows."""
        ...


H = TypeVar("H", bound=Handler)

_HANDLERS: dict[CommandType, Handler] = {}


def handles(command_type: CommandType) -> Callable[[H], H]:
    """Registers a handler for a type of command."""

    def register(handler: H) -> H:
        _HANDLERS[command_type] = handler
        return handler

    return register


def load_handlers(packages: Collection[str]) -> Mapping[CommandType, Handler]:
    """Returns the handlers of some packages, each of which may be a module.

    Raises:
        LookupError: a command type has none.
    """
    for name in packages:
        package = import_module(name)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
            import_module(f"{name}.{module.name}")
    if missing := set(CommandType) - _HANDLERS.keys():
        raise LookupError(f"no handler for {', '.join(sorted(missing))}")
    return dict(_HANDLERS)
