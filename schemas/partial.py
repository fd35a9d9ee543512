"""What can be read of a message that is no command, or none to this version.

Its sender waits for an answer like any other, so each part that is valid by itself counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import jiter
from pydantic import ValidationError

from schemas.attributes import MAX_EXTENSIONS, Attributes
from schemas.events import UNREADABLE_TYPE
from schemas.parsing import MAX_COMMAND_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class PartialCommand:
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


def read_partial(text: bytes) -> PartialCommand:
    """Returns what can be read; raises nothing."""
    root = _read_object(text)
    named = root.get("type")
    valid: dict[str, Any] = {}
    for name in _names(root):
        try:
            Attributes.model_validate({name: root[name]})
        except ValidationError:
            continue
        valid[name] = root[name]
    return PartialCommand(
        type=named if isinstance(named, str) else UNREADABLE_TYPE,
        attributes=Attributes.model_validate(valid),
    )


def _names(root: dict[str, Any]) -> Iterator[str]:
    """Returns what may be attributes; of extensions no more than a command may have."""
    known = Attributes.model_fields
    yield from (name for name in known if name in root)
    others = (name for name in root if name not in known and name not in {"type", "data"})
    yield from islice(others, MAX_EXTENSIONS)


def _read_object(text: bytes) -> dict[str, Any]:
    if len(text) > MAX_COMMAND_BYTES:
        return {}
    try:
        root = jiter.from_json(text, catch_duplicate_keys=True, allow_inf_nan=False)
    except ValueError:
        return {}
    return root if isinstance(root, dict) else {}
