"""Of commands that have ended a worker keeps nothing: it may run for months."""

from __future__ import annotations

from collections import deque
from enum import Enum
from types import ModuleType
from typing import TYPE_CHECKING, Final

from schemas.enums import Priority
from tests.integration.worker_bench import running_runner, until_ended
from tests.stub_api import reply

if TYPE_CHECKING:
    from tests.integration.worker_bench import Bench
    from tests.stub_api import StubApi

COMMANDS: Final = 40
MODELS: Final = reply(200, b'{"results": [], "nextPageToken": null}')
_LEAVES: Final = (type, ModuleType, Enum, str, bytes, int, float)


def sizes_of(root: object) -> dict[str, int]:
    """Returns how much each container has that an object reaches by attributes, by its path."""
    found: dict[str, int] = {}
    seen: dict[int, object] = {}
    left: list[tuple[str, object]] = [("", root)]
    while left:
        path, each = left.pop()
        if id(each) in seen or isinstance(each, _LEAVES):
            continue
        seen[id(each)] = each
        if isinstance(each, dict | list | tuple | set | frozenset | deque):
            found[path] = len(each)
            inner = list(each.values() if isinstance(each, dict) else each)
            left += ((f"{path}[]", one) for one in inner)
            continue
        slots = {slot for base in type(each).__mro__ for slot in getattr(base, "__slots__", ())}
        named = {name: getattr(each, name) for name in slots if hasattr(each, name)}
        named |= getattr(each, "__dict__", {})
        left += ((f"{path}.{name}", one) for name, one in named.items())
    return found


async def test_no_container_of_a_pool_grows_with_the_commands_that_it_ran(
    stub_bench: Bench, stub: StubApi
) -> None:
    stub.default = MODELS
    async with running_runner(stub_bench, concurrency=4) as runner:
        sizes = []
        for _ in range(2):
            sent = [
                await stub_bench.send("list_models", {}, priority=lane)
                for lane in Priority
                for _ in range(COMMANDS)
            ]
            runner.wake()
            for command_id in sent:
                await until_ended(stub_bench, command_id)
            sizes.append(sizes_of(runner))
    before, after = sizes
    grown = {path for path, size in after.items() if size - before.get(path, 0) >= COMMANDS // 2}
    assert grown == set()
    assert any(path.endswith("._runs._ids") for path in after), "it reaches that far"
