"""A command as the line that sends it."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_OPTIONS: Final = ("id", "replyto", "priority", "deadline", "notbefore", "correlationid")
_COLUMNS: Final = 88


def submit_line(command: Mapping[str, Any]) -> str:
    """Returns the `trainmaster submit` that sends a command, over several lines if it is long.

    Attributes that have no option of their own are left out.
    """
    words = [
        f"{name}={text}"
        for key, value in command["data"].items()
        for name, text in _pairs(key, value)
    ]
    words += [f"--{name}={command[name]}" for name in _OPTIONS if name in command]
    parts = [f"trainmaster submit {command['type']}", *map(shlex.quote, words)]
    line = " ".join(parts)
    return line if len(line) <= _COLUMNS else " \\\n  ".join(parts)


def _pairs(key: str, value: object) -> Iterator[tuple[str, str]]:
    """Yields arguments as `worker.cli.arguments` reads them."""
    if isinstance(value, dict) and value and not any("." in name for name in value):
        for name, inner in value.items():
            yield from _pairs(f"{key}.{name}", inner)
    elif isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        for each in value:
            yield key, each
    else:
        yield key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
