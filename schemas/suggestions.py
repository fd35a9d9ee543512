"""What to tell people about a name that is none of those that are known."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN_CHARACTERS = 80


def closest(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that was probably meant; upper case and dashes don't matter."""
    plain = {each.lower().replace("-", "_"): each for each in known}
    found = difflib.get_close_matches(name.lower().replace("-", "_"), plain, n=1)
    return plain[found[0]] if found else None


def unknown(noun: str, name: str, known: Iterable[str]) -> str:
    """Returns a sentence about an unknown name, with the one that was probably meant or all."""
    names = [str(each) for each in known]
    # A longer one is no slip of the finger, and comparing it takes long.
    meant = closest(name, names) if len(name) <= _SHOWN_CHARACTERS else None
    hint = f"Did you mean {meant!r}?" if meant else f"Known: {', '.join(names)}"
    return f"Unknown {noun} {name[:_SHOWN_CHARACTERS]!r}. {hint}"
