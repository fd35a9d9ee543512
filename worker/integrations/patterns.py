"""Patterns of types: `train.succeeded`, `train.*`, `*.failed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import InstanceOf, PlainValidator
from pydantic_core import PydanticCustomError

from schemas.commands import COMMAND_CLASSES
from schemas.enums import EventState
from schemas.events import UNREADABLE_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_CHARACTERS: Final = 200
_EVENT_TYPES: Final = tuple(
    f"{each}.{state}" for each in (*COMMAND_CLASSES, UNREADABLE_TYPE) for state in EventState
)


class Patterns:
    """One or several patterns, in which `*` stands for any characters."""

    __slots__ = ("_pieces", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        self._pieces = [text.split("*") for text in self.texts]

    def __repr__(self) -> str:
        return f"Patterns({list(self.texts)})"

    def match(self, text: str) -> bool:
        """Tells whether one of the patterns is the whole of a text."""
        return any(_matches(pieces, text) for pieces in self._pieces)


def fits_no_event(text: str) -> str | None:
    """Returns why a pattern is that of no event of ours; None where it is that of one."""
    pattern = Patterns([text])
    if any(map(pattern.match, _EVENT_TYPES)):
        return None
    return f"{text[:80]!r} is the type of no event; they are like train.succeeded"


def _matches(pieces: Sequence[str], text: str) -> bool:
    """Tells whether a text is these pieces with anything between them.

    Each is taken as early as it comes: a regular expression would try every way, and others write
    both patterns and texts.
    """
    first, *between = pieces
    if not between:
        return text == first
    last = between.pop()
    if len(text) < len(first) + len(last):
        return False
    if not (text.startswith(first) and text.endswith(last)):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in between:
        if (found := text.find(piece, at, end)) < 0:
            return False
        at = found + len(piece)
    return True


def _read(value: Any) -> Patterns:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise _wrong("must be a type in quotes or a list of such, like 'train.*'")
    if not texts:
        raise _wrong("names no type; leave it out for all")
    for text in texts:
        if not text or not text.isprintable() or len(text) > _MAX_CHARACTERS:
            raise _wrong(f"must have 1 to {_MAX_CHARACTERS} printable characters in each")
        if text.count("*") > 4:
            raise _wrong("must have at most four * in each")
    return Patterns(texts)


def _wrong(message: str) -> PydanticCustomError:
    return PydanticCustomError("patterns", "{said}", {"said": message})


TypePatterns = Annotated[InstanceOf[Patterns], PlainValidator(_read)]
