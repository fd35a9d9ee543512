"""Everything that can refuse a script, at every place of every script: nothing is lost or doubled.

A script is not rolled back, so what it wrote before a refusal would stay. Each act is called while
something refuses it, for one refusal after the other. Then what is there must be what was there
before; and once the refusal is over, the same act must leave what it leaves where nothing ever
refused it.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import pytest
from redis.exceptions import ResponseError

from tests.integration.queue.ledger.refused_acts import ACTS, World
from worker.backfill.errors import BackfillError
from worker.embedded import EmbeddedRedis, find_servers
from worker.errors import FencedError
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys
from worker.queue.ledger.lua import load_script, script_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from tests.integration.queue.ledger.refused_acts import Act

_CALL: Final = re.compile(r"redis\.p?call\(([^,)]+)")
_RIGHTS: Final = re.compile("^-- Rights: (.*)$", re.MULTILINE)
# The one script that gets the name of a command, and which name.
_POPS: Final = {"inbox": "LPOP", "celery": "RPOP"}
_GREATEST: Final = f"{2**64 - 1}-{2**64 - 1}"
# Times and ids of entries, which differ from one run to the next.
_MOMENT: Final = re.compile(rb"\d{10,}(-\d+)?|\d{4}-\d\d-\d\dT[\d:.]+Z")
PACKAGES: Final = (
    "worker.queue.ledger",
    "worker.encord.creation",
    "worker.backfill",
    "worker.gateway",
    "worker.integrations",
    "worker.webhooks",
    "worker.sinks",
)
FAMILIES: Final = (
    "command:*",
    "text:*",
    "replies:*",
    "lock:*",
    "orphan:*",
    "backfill:*",
    "follower:*",
    "sink:*",
    "sink-waiting:*",
    "sink-retries:*",
    "sink-unsent:*",
    "group:*",
    "group-open:*",
    "group-results:*",
    "delivery:*",
    "window:*",
    "window-open:*",
    "submitted:*",
)


def _scripts() -> dict[str, tuple[str, str]]:
    """Each script as its file has it, and as Redis gets it."""
    return {
        name: (file.read_text("utf-8"), script_text(name, package))
        for package in PACKAGES
        for file in resources.files(package).joinpath("scripts").iterdir()
        if file.is_file()
        for name in (file.name.removesuffix(".lua"),)
    }


SCRIPTS: Final = _scripts()
CASES: Final = [(script, variant) for script in sorted(ACTS) for variant in ACTS[script]]
every_act = pytest.mark.parametrize(("script", "variant"), CASES)

State = dict[str, Any]


def commands_of(script: str, variant: str) -> list[str]:
    found = {name.strip("'") for name in _CALL.findall(SCRIPTS[script][1])}
    if script == "move_inbox":
        found = found - {"ARGV[3]"} | {_POPS[variant]}
    assert all(re.fullmatch("[A-Z]+", name) for name in found), found
    return sorted(found)


def _on(servers: list[Path]) -> pytest.MarkDecorator:
    # Without one the fixture fails; an empty list would skip.
    found: list[Any] = [*servers[:1]] or [None]
    found += [pytest.param(one, marks=pytest.mark.long, id=one.name) for one in servers[1:]]
    return pytest.mark.parametrize(
        "server", found, indirect=True, ids=lambda one: one and one.name, scope="module"
    )


on_every_server = _on(find_servers())
on_one_server = _on(find_servers()[:1])


@pytest.fixture(scope="module")
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[EmbeddedRedis]:
    """A server of this module alone, for some of the refusals concern all of it."""
    folder = tmp_path_factory.mktemp("redis")
    # What is not kept costs thousands of worlds no disk.
    config = {"appendonly": "no"}
    with EmbeddedRedis(folder, server=request.param, config=config) as running:
        yield running


@pytest.fixture
async def admin(server: EmbeddedRedis) -> AsyncIterator[Redis]:
    client = connect(server.url)
    yield client
    await client.aclose()


async def tell(redis: Redis, *words: str | bytes | int) -> Any:
    return await cast("Awaitable[Any]", redis.execute_command(*words))  # type: ignore[no-untyped-call]


async def names_of(redis: Redis, keys: Keys) -> list[bytes]:
    return sorted([key async for key in redis.scan_iter(match=f"{keys.prefix}*", count=1000)])


async def state_of(redis: Redis, keys: Keys) -> State:
    """Returns what lies in a namespace, as values that can be compared."""
    names = await names_of(redis, keys)
    pipe = redis.pipeline(transaction=False)
    for name in names:
        pipe.type(name)
        pipe.ttl(name)
    told = await pipe.execute()
    reads: dict[bytes, Callable[[bytes], Any]] = {
        b"string": pipe.get,
        b"hash": pipe.hgetall,
        b"set": pipe.smembers,
        b"list": lambda name: pipe.lrange(name, 0, -1),
        b"zset": lambda name: pipe.zrange(name, 0, -1, withscores=True),
        b"stream": pipe.xrange,
    }
    for name, kind in zip(names, told[::2], strict=True):
        reads[kind](name)
    values = await pipe.execute()
    state: State = {}
    for name, expires, value in zip(names, told[1::2], values, strict=True):
        shown = sorted(value) if isinstance(value, set) else value
        if isinstance(value, dict):
            shown = {field: one for field, one in value.items() if not _is_no_count(field, one)}
        # A stream that holds nothing is as good as none.
        if not shown and isinstance(shown, list):
            continue
        state[name.decode().removeprefix(keys.prefix)] = (expires > 0, shown)
    if await redis.exists(keys.commands) and "commands" in state:
        try:
            pending = await redis.xpending(keys.commands, "intake")
            state["pending"] = pending["pending"]
        except ResponseError:
            state["pending"] = None
    return state


def _is_no_count(name: bytes, value: bytes) -> bool:
    return value == b"0" and name.partition(b":")[0] in {b"dropped", b"failed", b"passed"}


def comparable(state: State, keys: Keys) -> Any:
    """Returns a state without its times, so that it can be compared with another world's."""

    def mask(value: Any) -> Any:
        match value:
            case bytes():
                return _MOMENT.sub(b"T", value.replace(keys.namespace.encode(), b"NS"))
            case float():
                return "T" if value > 10**9 else value
            case dict():
                return {mask(name): mask(one) for name, one in value.items()}
            case list() | tuple():
                masked = [mask(one) for one in value]
                # Members by time: which comes first may be a matter of a millisecond.
                if all(isinstance(one, list) and one[1:] == ["T"] for one in masked):
                    masked.sort()
                return masked
            case _:
                return value

    return mask(state)


@dataclass
class Stage:
    """Worlds in which one act is tried, and what it leaves where nothing refuses it."""

    admin: Redis
    script: str
    variant: str
    folder: Path
    number: int = 0
    reference: Any = None
    before: State = field(default_factory=dict)
    after: State = field(default_factory=dict)
    act: Act | None = None
    keys: Keys = field(default_factory=lambda: Keys("none"))
    stem: str = field(default_factory=lambda: secrets.token_hex(6))

    async def open(self) -> None:
        await self.renew()
        self.before = await self.state()
        await self.call(self.admin)
        self.after = await self.state()
        self.reference = comparable(self.after, self.keys)
        await self.renew()

    async def renew(self) -> None:
        """Begins a world anew."""
        if names := await names_of(self.admin, self.keys):
            await self.admin.delete(*names)
        self.number += 1
        self.keys = Keys(f"{self.stem}-{self.number:03}")
        world = World(self.admin, self.keys, self.folder)
        self.act = await ACTS[self.script][self.variant](world)

    async def state(self) -> State:
        return await state_of(self.admin, self.keys)

    async def call(self, client: Redis) -> None:
        assert self.act is not None
        await self.act(client)

    def name(self, short: str) -> str:
        return self.keys.prefix + short

    async def is_refused(self, client: Redis) -> bool:
        """Calls the act; tells whether Redis refused it. Odd content may confuse who reads it."""
        try:
            await self.call(client)
        except ResponseError:
            return True
        except (ValueError, KeyError, AttributeError, FencedError, BackfillError):
            return False
        return False

    async def check(self, what: str, refused: Redis, *, whole: bool) -> bool:
        """Calls the act while it may be refused; returns whether it was.

        Args:
            what: the refusal, for messages.
            refused: the client that is refused.
            whole: whether an act that is not refused must leave what it always leaves.
        """
        before = await self.state()
        is_refused = await self.is_refused(refused)
        now = await self.state()
        if is_refused:
            assert now == before, f"{what} left something behind"
        elif whole:
            assert comparable(now, self.keys) == self.reference, f"{what} lost or doubled something"
        else:
            self._nothing_twice(now, what)
        return is_refused

    def _nothing_twice(self, now: State, what: str) -> None:
        for name in ("events", "dead-letters"):
            told = [str(one[-1]) for one in comparable(now, self.keys).get(name, (0, []))[1]]
            known = [str(one[-1]) for one in self.reference.get(name, (0, []))[1]]
            more = Counter(told) - Counter(known)
            assert all(told.count(one) == 1 for one in more), f"{what} told twice in {name}"

    async def finish(self, what: str) -> None:
        """Calls the act once nothing refuses it any more."""
        await self.call(self.admin)
        now = comparable(await self.state(), self.keys)
        assert now == self.reference, f"after {what} something is lost or doubled"


@pytest.fixture
async def stage(admin: Redis, tmp_path: Path, script: str, variant: str) -> AsyncIterator[Stage]:
    opened = Stage(admin, script, variant, tmp_path)
    await opened.open()
    yield opened
    await opened.renew()
    if names := await names_of(admin, opened.keys):
        await admin.delete(*names)


@asynccontextmanager
async def limited(server: EmbeddedRedis, admin: Redis, *rules: str) -> AsyncIterator[Redis]:
    """A client of a user who may do what the rules say."""
    name = f"user-{secrets.token_hex(6)}"
    await tell(admin, "ACL", "SETUSER", name, "reset", "on", ">pw", *rules)
    address = urlsplit(server.url)
    client = connect(f"redis://{name}:pw@{address.hostname}:{address.port}/0")
    try:
        yield client
    finally:
        await client.aclose()
        await tell(admin, "ACL", "DELUSER", name)


def test_every_script_has_an_act() -> None:
    assert ACTS.keys() == SCRIPTS.keys()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_right_to_several_keys_is_asked_for_only_where_redis_looks_at_each(script: str) -> None:
    rights = [right for line in _RIGHTS.findall(SCRIPTS[script][0]) for right in line.split("  ")]
    several = {right.split(" ")[0] for right in rights if right.count(" ") > 1}
    assert several <= {"DEL"}


@on_every_server
@every_act
async def test_a_right_that_is_missing_leaves_nothing_half_done(
    server: EmbeddedRedis, admin: Redis, stage: Stage
) -> None:
    """Each command of the script, and each family of keys."""
    commands = commands_of(stage.script, stage.variant)
    rules: dict[str, tuple[str, ...]] = {
        command: ("~*", "+@all", f"-{command.lower()}") for command in commands
    }
    for family in FAMILIES:
        others = [f"~{{*}}:{one}" for one in FAMILIES if one != family]
        fixed = [f"~{{*}}:{one}*" for one in ("commands", "events", "dead-", "due:", "deadlines")]
        fixed += [f"~{{*}}:{one}*" for one in ("hold", "epoch", "paused:", "clock", "rate")]
        fixed += [
            f"~{{*}}:{one}*" for one in ("inflight", "inbox", "celery", "backfills", "followers")
        ]
        fixed += [f"~{{*}}:{one}*" for one in ("deliveries", "windows")]
        rules[family] = (*others, *fixed, "+@all")
    refused = 0
    for what, rule in rules.items():
        async with limited(server, admin, *rule) as client:
            if await stage.check(f"without {what}", client, whole=True):
                refused += 1
            else:
                await stage.renew()
    assert refused
    await stage.finish("refusals")


@on_one_server
@every_act
async def test_a_key_of_the_wrong_type_leaves_nothing_half_done(stage: Stage) -> None:
    for short in sorted({*stage.before, *stage.after} - {"pending"}):
        await damaged(stage, short, f"a wrong {short}", misplace)


@on_one_server
@every_act
async def test_a_stream_that_takes_no_more_leaves_nothing_half_done(stage: Stage) -> None:
    streams = [
        short
        for short in stage.after
        if short.split(":")[0]
        in {
            "commands",
            "events",
            "dead-letters",
            "replies",
            "backfill-results",
        }
    ]
    for short in streams:
        await damaged(stage, short, f"no more of {short}", exhaust)


@on_one_server
@every_act
async def test_odd_content_leaves_nothing_half_done(stage: Stage) -> None:
    hashes = {
        short: list(value[1])
        for short, value in stage.before.items()
        if short != "pending" and isinstance(value[1], dict)
    }
    for short, names in hashes.items():
        for name in names:
            for odd in (b"odd", None) if short.startswith("backfill") else (b"odd",):

                async def spoil(
                    redis: Redis, key: str, name: bytes = name, odd: bytes | None = odd
                ) -> None:
                    if odd is None:
                        await redis.hdel(key, name.decode())
                    else:
                        await redis.hset(key, name.decode(), odd)

                await damaged(stage, short, f"{name!r} of {short} is {odd!r}", spoil)


async def damaged(
    stage: Stage, short: str, what: str, damage: Callable[[Redis, str], Awaitable[None]]
) -> None:
    """Tries the act while a key is damaged, and again once it is as it was."""
    key = stage.name(short)
    kept = await stage.admin.dump(key)
    await damage(stage.admin, key)
    if await stage.check(what, stage.admin, whole=False):
        await stage.admin.delete(key)
        if kept is not None:
            await stage.admin.restore(key, 0, kept)
            if stage.before[short][0]:
                await stage.admin.expire(key, 600)
        await stage.finish(what)
    await stage.renew()


async def misplace(redis: Redis, key: str) -> None:
    kind = await redis.type(key)
    await redis.delete(key)
    if kind == b"set":
        await redis.set(key, "x")
    else:
        await redis.sadd(key, "x")


async def exhaust(redis: Redis, key: str) -> None:
    await redis.xadd(key, {"exhausted": "1"}, id=_GREATEST)
    await redis.xdel(key, _GREATEST)


@on_one_server
@every_act
async def test_a_server_that_takes_no_writes_leaves_nothing_half_done(
    admin: Redis, stage: Stage
) -> None:
    """A full one, one without its replicas, and one that is a replica itself."""
    trouble = {
        "full": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "without replicas": (
            ("CONFIG", "SET", "min-replicas-to-write", "3"),
            ("CONFIG", "SET", "min-replicas-to-write", "0"),
        ),
        "a replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    }
    for what, (break_it, mend_it) in trouble.items():
        await tell(admin, *break_it)
        try:
            was_refused = await stage.check(what, admin, whole=True)
        finally:
            await tell(admin, *mend_it)
        if was_refused:
            await stage.finish(what)
        await stage.renew()


@on_every_server
async def test_a_refused_script_names_the_right_that_its_user_lacks(
    server: EmbeddedRedis, admin: Redis
) -> None:
    async with limited(server, admin, "~*", "+@all", "-zadd") as client:
        with pytest.raises(ResponseError, match="lacks the right to ZADD; allow it"):
            await load_script(client, "take_permit")(keys=["{x}:inflight"], args=["p", 1, 1000])
