"""The Lua scripts of a package, and the rights that they ask for before they write.

A script is not rolled back: one that is refused in its middle has written what came before. So a
script in which anything follows a write, or whose `redis.pcall` would hide a refusal, names in its
head the commands that it needs there::

    -- Rights: HSET command:  DEL command: text:  ZADD 3  XADD replies:  GET ARGV[5]

Each command is followed by the keys that it is run on: `3` is KEYS[3], `command:` a family of keys
of the namespace, whose prefix is ARGV[1], and anything else stands there as it is. Several keys are
for commands that take several: of others Redis looks at the first key alone. The line becomes a
check that refuses the script whole. It costs Redis 0.2 microseconds a command, and no round trip.

What scripts of several packages share lies in `scripts/include`, and comes in where one says

    -- Include: answer
"""

from __future__ import annotations

import re
from importlib import resources
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

_RIGHTS: Final = re.compile(r"^-- Rights: +(.*)$", re.MULTILINE)
_INCLUDE: Final = re.compile(r"^-- Include: (\w+)$", re.MULTILINE)
_BETWEEN: Final = re.compile(r" {2,}")
# As many as the greediest of the commands wants, or Redis finds no key among them.
_ARGUMENTS: Final = 4
_REFUSE: Final = (
    "if lacked then return redis.error_reply('NOPERM nothing was written: the user of Redis lacks"
    " the right to ' .. lacked .. '; allow it with ACL SETUSER') end"
)


def load_script(redis: Redis, name: str, package: str = "worker.queue.ledger") -> AsyncScript:
    """Returns a package's `scripts/<name>.lua`; it is sent to Redis when it is first needed."""
    return redis.register_script(script_text(name, package))


def script_text(name: str, package: str = "worker.queue.ledger") -> str:
    """Returns a script as Redis gets it."""
    text = resources.files(package).joinpath("scripts", f"{name}.lua").read_text("utf-8")
    # Each line stays one line, so that errors name the lines of the file.
    text = _INCLUDE.sub(lambda found: _included(found[1]), text)
    return _RIGHTS.sub(lambda found: _ask_for(_BETWEEN.split(found[1].strip())), text)


def _included(name: str) -> str:
    """Returns what scripts share as one line."""
    file = resources.files("worker.queue.ledger").joinpath("scripts", "include", f"{name}.lua")
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return " ".join(line for line in lines if not line.startswith("--"))


def _ask_for(rights: list[str]) -> str:
    lacked = " or ".join(map(_lacked, rights))
    return f"do local lacked = {lacked} {_REFUSE} end"


def _lacked(right: str) -> str:
    name, *words = right.split(" ")
    keys = [_key(word) for word in words]
    keys += keys[-1:] * (_ARGUMENTS - len(keys))
    command = name if name.startswith("ARGV") else f"'{name}'"
    shown = f"{command} .. ' {words[0]}'" if words[0].endswith(":") else command
    return f"not redis.acl_check_cmd({command}, {', '.join(keys)}) and {shown}"


def _key(word: str) -> str:
    if word.isdigit():
        return f"KEYS[{word}]"
    return f"ARGV[1] .. '{word}'" if word.endswith(":") else word
