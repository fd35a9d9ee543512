"""Patterns of types: `train.succeeded`, `train.*`, `*.failed`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import InstanceOf, PlainValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_CHARACTERS: Final = 200


class Patterns:
    """One or several patterns, in which `*` stands for any characters."""

    __slots__ = ("_matcher", "texts")

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(texts)
        several = (".*".join(map(re.escape, text.split("*"))) for text in self.texts)
        self._matcher = re.compile("|".join(f"(?:{each})" for each in several), re.DOTALL)

    def __repr__(self) -> str:
        return f"Patterns({list(self.texts)})"

    def match(self, text: str) -> bool:
        """Tells whether one of the patterns is the whole of a text."""
        return self._matcher.fullmatch(text) is not None


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
