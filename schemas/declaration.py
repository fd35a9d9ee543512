"""What a command declares in its class; all that lists commands reads it from there."""

from __future__ import annotations

from typing import Any, ClassVar, TypeAlias, get_args

from pydantic import BaseModel, JsonValue

from schemas.attributes import Attributes
from schemas.enums import EventState

ResultClass: TypeAlias = type[BaseModel] | None

Example: TypeAlias = dict[str, JsonValue]


class DeclaredCommand(Attributes):
    """A type of command. Its class adds the fields `type`, a literal, and `data`.

    The class' docstring says what the command does; the documents, `describe` and the shell's
    completion show its first line.

    Attributes:
        command_type: what stands in `type`.
        result: what the `result` of a succeeded event holds; None where it is null.
        own_states: of its events, those that not every command has.
        example: a command as it may stand on the stream.
    """

    command_type: ClassVar[str]
    result: ClassVar[ResultClass] = None
    own_states: ClassVar[frozenset[EventState]] = frozenset()
    example: ClassVar[Example]

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Takes the type from the field, where it stands for the parser."""
        super().__pydantic_init_subclass__(**kwargs)
        (cls.command_type,) = get_args(cls.model_fields["type"].annotation)

    @staticmethod
    def summary(result: dict[str, Any]) -> str:  # noqa: ARG004 - what is null says nothing
        """Returns a result in a few words, for the lines of `events` and `submit --wait`."""
        return ""
