"""Names that people type: command types, events, error codes. A wrong one gets a suggestion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click
from click.shell_completion import CompletionItem

from schemas.enums import CommandType, EventState
from schemas.events import UNREADABLE_TYPE, ErrorCode
from schemas.suggestions import unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click import Context, Parameter


class Known(click.ParamType[str]):
    """One of many names; unlike `click.Choice` it lists them only where none is close.

    Args:
        noun: what a name names, like `command type`.
        names: those that are listed and completed.
        more: further ones that are taken.
    """

    def __init__(self, noun: str, names: Sequence[str], more: Sequence[str] = ()) -> None:
        self.name = noun
        self._names = list(names)
        self._more = list(more)

    def convert(self, value: str, param: Parameter | None, ctx: Context | None) -> str:
        """Returns the name; any other is wrong usage."""
        if value not in {*self._names, *self._more}:
            close = self._more if "." in value else self._names
            self.fail(unknown(self.name, value, close), param, ctx)
        return value

    def shell_complete(
        self,
        ctx: Context,  # noqa: ARG002 - click's signature
        param: Parameter,  # noqa: ARG002 - the same
        incomplete: str,
    ) -> list[CompletionItem]:
        """Returns the names that begin so."""
        names = self._names if "." not in incomplete else self._more
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


_TYPES: Final = [str(each) for each in CommandType]
_STATES: Final = [str(each) for each in EventState]

COMMAND_TYPE: Final = Known("command type", _TYPES)

# A message whose type can't be read has a letter, too.
LETTER_TYPE: Final = Known("command type", [*_TYPES, UNREADABLE_TYPE])

EVENT_TYPE: Final = Known(
    "event type",
    [*_TYPES, UNREADABLE_TYPE, *_STATES],
    [f"{each}.{state}" for each in (*_TYPES, UNREADABLE_TYPE) for state in _STATES],
)

ERROR_CODE: Final = Known("error code", [str(each) for each in ErrorCode])
