"""The client without an event loop, made of the one with one: `python -m tools.blocking_client`.

Both have the same methods with the same words, so they are written once, in `aio.py` and
`partitions.py` of `trainmaster_client`, and what differs stands below them, in its `driver.py`.
What is left is told by word: `async def` is `def`, `AsyncClient` is `Client`. httpcore and psycopg
do the same. The results are modules like any other, for type checkers, editors and who reads it.

With `--write` they are written; without, nothing is changed, and the exit code is 1 where one is
stale.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

STALE: Final = 1
CLIENT: Final = Path(__file__).parent.parent / "client" / "trainmaster_client"
SOURCE: Final = CLIENT / "aio.py"
TARGET: Final = CLIENT / "blocking.py"
# The client itself comes first: it says all the words.
MODULES: Final = {SOURCE: TARGET, CLIENT / "partitions.py": CLIENT / "blocking_partitions.py"}

_MADE: Final = '''\
"""{title} for programs without an event loop.

Made of `trainmaster_client.{name}` by `python -m tools.blocking_client --write`: change that.
"""
'''
_FROM_BLOCKING: Final = "from trainmaster_client.blocking import"
# In this order: whole texts before the words in them.
_WORDS: Final = (
    (
        "AsyncGenerator, Awaitable, Callable, Collection, Iterable",
        "Callable, Collection, Generator, Iterable",
    ),
    (r"Awaitable\[object\]", "object"),
    ("AsyncGenerator", "Generator"),
    ("tasks may share it", "threads may share it"),
    ("from any task", "from any thread, or a signal's handler"),
    (r"Async(Client|Consumer|Driver|Partitions|Stop)", r"\1"),
    ("__aenter__", "__enter__"),
    ("__aexit__", "__exit__"),
    ("async (def|with)", r"\1"),
    ("await ", ""),
)


def made_of(source: str, name: str = SOURCE.stem) -> str:
    """Returns a module of the blocking client in the words of the other one.

    Args:
        source: the text of a module for event loops.
        name: of that.

    Raises:
        ValueError: a word is no longer in the client's source, or one of an event loop is left.
    """
    is_client = name == SOURCE.stem
    title = "The client" if is_client else f"{name.capitalize()}"
    made = _MADE.format(title=title, name=name)
    _, _, text = source.split('"""', 2)
    text = made.rstrip("\n") + text
    for pattern, word in _WORDS:
        text, found = re.subn(
            rf"\b{pattern}" + (r"\b" if pattern[-1].isalpha() else ""), word, text
        )
        if not found and is_client:
            raise ValueError(f"nothing says {pattern!r} any more: take it off the list")
    left = re.findall(r"\b(?:async|await|asyncio|Async\w+|__a\w+__)\b", text.removeprefix(made))
    if left:
        raise ValueError(f"no word for {', '.join(sorted(set(left)))} without an event loop")
    text = text.replace("from trainmaster_client.aio import", _FROM_BLOCKING)
    return _formatted(text)


def _formatted(text: str) -> str:
    """Returns a module as the formatter has it: lines have become shorter."""
    ruff = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


@click.command()
@click.option("--write", is_flag=True, help="Write the module.")
def main(*, write: bool) -> None:
    """Makes the blocking client of the one for event loops."""
    for source, target in MODULES.items():
        made = made_of(source.read_text(), source.stem)
        if write:
            target.write_text(made)
        elif made != target.read_text():
            told = f"{target.name} is stale: run python -m tools.blocking_client --write"
            click.echo(told, err=True)
            raise SystemExit(STALE)


if __name__ == "__main__":
    main()
