"""Which handler carries out which command: each handler says it with `handles`."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from schemas.commands import COMMAND_CLASSES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Mapping

    from schemas.commands import Command
    from worker.queue.outcome import Outcome
    from worker.queue.run_context import RunContext

    C = TypeVar("C", bound=Command)

    Handler: TypeAlias = Callable[[RunContext[C]], Coroutine[Any, Any, Outcome]]
    """Carries out one run of a command: returns the outcome, or raises an error whose class
    decides what follows."""

_HANDLERS: dict[str, Handler[Any]] = {}


def handles(command_class: type[C]) -> Callable[[Handler[C]], Handler[C]]:
    """Registers a handler for a command; its result is what the command's class names."""

    def register(handler: Handler[C]) -> Handler[C]:
        _HANDLERS[command_class.command_type] = handler
        return handler

    return register


def load_handlers(packages: Collection[str]) -> Mapping[str, Handler[Any]]:
    """Returns the handlers of some packages, each of which may be a module.

    Raises:
        LookupError: a command has no handler, or one that has is not among the commands.
    """
    for name in packages:
        package = import_module(name)
        for module in pkgutil.iter_modules(getattr(package, "__path__", ())):
            import_module(f"{name}.{module.name}")
    if missing := COMMAND_CLASSES.keys() - _HANDLERS.keys():
        raise LookupError(f"no handler for {', '.join(sorted(missing))}")
    if unlisted := _HANDLERS.keys() - COMMAND_CLASSES.keys():
        raise LookupError(f"not in the union of its resource: {', '.join(sorted(unlisted))}")
    return dict(_HANDLERS)
