"""What can be read of a message that is no command, or none to this version.

Its sender waits for an answer like any other, so each part that is valid by itself counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

import jiter
from pydantic import ValidationError

from schemas.attributes import Attributes
from schemas.events import UNREADABLE_TYPE
from schemas.parsing import MAX_COMMAND_BYTES

# More than any command has; a message of many thousand keys is not worth looking at them all.
_MOST_ATTRIBUTES = 64


@dataclass(frozen=True, slots=True)
class LegibleCommand:
    """The parts of a message that events about it need.

    Attributes:
        type: as the message names it, known or not; `UNREADABLE_TYPE` if it names none.
        attributes: those that are valid.
    """

    type: str
    attributes: Attributes

    @property
    def replyto(self) -> str | None:
        """Where its sender waits for an answer."""
        return self.attributes.replyto

    def context(self) -> dict[str, Any]:
        """Returns what every event repeats."""
        return self.attributes.context()


def read_legible(text: bytes) -> LegibleCommand:
    """Returns what can be read; raises nothing."""
    root = _read_object(text)
    named = root.get("type")
    valid: dict[str, Any] = {}
    for name, value in islice(root.items(), _MOST_ATTRIBUTES):
        if name in {"type", "data"}:
            continue
        try:
            Attributes.model_validate({name: value})
        except ValidationError:
            continue
        valid[name] = value
    return LegibleCommand(
        type=named if isinstance(named, str) else UNREADABLE_TYPE,
        attributes=Attributes.model_validate(valid),
    )


def _read_object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_COMMAND_BYTES:
        return {}
    try:
        root = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        return {}
    return root if isinstance(root, dict) else {}
