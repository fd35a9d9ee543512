"""`trainmaster listen` and `trigger`: what a sink would send, to a server on this machine."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest
import standardwebhooks

from schemas.event_examples import event_types
from tests.console import Console, Said, finish, run_on_terminal, wait_until
from tests.gateway_process import running_gateway
from tests.stream_events import event_text
from tests.stub_api import Answer, StubApi, reply
from worker.cli.forwarding import Forwarder
from worker.embedded import EmbeddedRedis
from worker.gateway.access.tokens import Scope, Tokens
from worker.integrations.standard_webhooks import SigningKey
from worker.queue.ledger.connection import connect
from worker.queue.ledger.keys import Keys

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from redis.asyncio import Redis


async def add(redis: Redis, keys: Keys, command_id: str, event_type: str, **told: Any) -> None:
    await redis.xadd(keys.events, {"event": event_text(command_id, event_type, **told)})


def received(stub: StubApi, secret: str) -> list[dict[str, Any]]:
    """The events that came, each verified by the library of Standard Webhooks."""
    verifier = standardwebhooks.Webhook(secret)
    events = []
    for each in stub.recorded:
        event = cast("dict[str, Any]", verifier.verify(each.body, dict(each.headers)))
        assert each.headers["webhook-id"] == event["id"]
        assert each.headers["content-type"].startswith("application/cloudevents+json")
        events.append(event)
    return events


@dataclass
class Listening:
    """A `listen --json` that is ready; its lines are read as they come."""

    process: subprocess.Popen[str]
    secret: str
    lines: list[dict[str, Any]] = field(default_factory=list)

    def until_lines(self, number: int) -> None:
        wait_until(lambda: len(self.lines) >= number, f"{number} lines")


@contextmanager
def listening(console: Console, *options: str) -> Iterator[Listening]:
    """Runs `listen` until the block ends; an interrupt ends it with 0."""
    process = console.start("listen", "--json", *options)
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first, process.communicate()[1]
    found = Listening(process, orjson.loads(first)["secret"])
    reader = threading.Thread(
        target=lambda: found.lines.extend(map(orjson.loads, iter(process.stdout.readline, "")))  # type: ignore[union-attr]
    )
    reader.start()
    try:
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
        reader.join()
        error = process.stderr.read() if process.stderr is not None else ""
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
    assert (code, "Traceback" in error) == (0, False), error


async def test_what_comes_is_forwarded_signed_and_told(
    console: Console, redis: Redis, keys: Keys, stub: StubApi
) -> None:
    await add(redis, keys, "before", "train.accepted")
    stub.answers.extend([reply(204), reply(500), reply(404)])
    with listening(console, "--forward-to", f"{stub.url}/hook?a=b") as listen:
        for number, state in enumerate(("accepted", "retrying", "succeeded")):
            await add(redis, keys, f"night-{number}", f"train.{state}", correlationid="東京")
        listen.until_lines(3)
    events = received(stub, listen.secret)
    assert [event["subject"] for event in events] == ["night-0", "night-1", "night-2"]
    assert events[0] == orjson.loads(event_text("night-0", "train.accepted", correlationid="東京"))
    assert {each.target for each in stub.recorded} == {"/hook?a=b"}
    assert {each.connection for each in stub.recorded} == {1}, "one connection serves"
    assert [line["status"] for line in listen.lines] == [204, 500, 404]
    assert listen.lines[2]["type"] == "train.succeeded"


async def test_an_event_of_another_shape_is_forwarded_and_told_by_its_type(
    console: Console, redis: Redis, keys: Keys, stub: StubApi
) -> None:
    odd = orjson.loads(event_text("鯨", "train.succeeded")) | {"data": {}}
    await redis.xadd(keys.events, {"event": orjson.dumps(odd)})
    process = console.start("listen", "--forward-to", stub.url, "--since", "1h")
    wait_until(lambda: len(stub.recorded) == 1 or process.poll() is not None, "the event")
    await add(redis, keys, "next", "train.accepted")
    wait_until(lambda: len(stub.recorded) == 2 or process.poll() is not None, "the next event")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert "train.succeeded  鯨" in out
    secret = out.splitlines()[1]
    verifier = standardwebhooks.Webhook(secret)
    events = [verifier.verify(each.body, dict(each.headers)) for each in stub.recorded]
    assert [event["subject"] for event in cast("Any", events)] == ["鯨", "next"]


@pytest.mark.parametrize("pair", ["type=null", "id=5", "subject=null", "data=null", "time=5"])
def test_an_event_that_is_none_is_not_triggered(console: Console, pair: str) -> None:
    said = console.run(
        "trigger",
        "train.succeeded",
        pair,
        "--forward-to",
        "9",
        "--secret",
        SigningKey.new().reveal(),
    )
    assert said.code == 2
    assert f"{pair.partition('=')[0]} of an event must be" in said.err


async def test_only_the_types_that_are_wanted_are_forwarded(
    console: Console, redis: Redis, keys: Keys, stub: StubApi
) -> None:
    types = ("--type", "attach", "--type", "failed", "--type", "train.acc*")
    with listening(console, "--forward-to", str(stub.port), *types) as listen:
        for event_type in (
            "train.accepted",
            "train.succeeded",
            "predict.failed",
            "attach.accepted",
        ):
            await add(redis, keys, "a", event_type)
        listen.until_lines(3)
    assert [line["type"] for line in listen.lines] == [
        "train.accepted",
        "predict.failed",
        "attach.accepted",
    ]


async def test_it_can_begin_in_the_past_and_keep_its_secret(
    console: Console, redis: Redis, keys: Keys, stub: StubApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = SigningKey.new().reveal()
    await add(redis, keys, "before", "train.accepted")
    monkeypatch.setitem(console.environment, "TRAINMASTER_LISTEN_SECRET", secret)
    with listening(console, "--forward-to", stub.url, "--since", "1h") as listen:
        listen.until_lines(1)
        assert listen.secret == secret
    assert [event["subject"] for event in received(stub, secret)] == ["before"]


async def test_an_endpoint_that_is_down_is_told_and_the_next_events_come_all_the_same(
    console: Console, redis: Redis, keys: Keys
) -> None:
    with StubApi() as stub:
        port = stub.port
    # Nobody listens there now.
    with listening(console, "--forward-to", f"127.0.0.1:{port}/hook") as listen:
        await add(redis, keys, "lost-1", "train.accepted")
        await add(redis, keys, "lost-2", "train.accepted")
        listen.until_lines(2)
        first, second = listen.lines
        assert (first["status"], second["status"]) == (None, None)
        assert "refused" in first["error"] or "failed" in first["error"]
        assert (first["attempts"], second["attempts"]) == (4, 1)
        assert listen.process.poll() is None


def test_an_endpoint_that_comes_back_gets_the_event_that_is_under_way(stub: StubApi) -> None:
    stub.answers.extend([Answer(then="reset"), Answer(raw=b"no HTTP\r\n\r\n", then="close")])
    pauses: list[float] = []
    with Forwarder(stub.url, SigningKey.new(), pauses.append) as forwarder:
        event = orjson.loads(event_text("a", "train.accepted"))
        found = forwarder.send(event)
        assert (found.status, found.attempts, len(pauses)) == (200, 3, 2)
        # The next one has all its tries again.
        stub.answers.extend([Answer(then="reset")] * 9)
        assert forwarder.send(event).attempts == 4
        assert forwarder.send(event).attempts == 1


def test_a_user_and_a_password_of_the_url_go_along(stub: StubApi) -> None:
    url = stub.url.replace("http://", "http://me:p%40ss@")
    with Forwarder(url, SigningKey.new(), lambda _: None) as forwarder:
        assert forwarder.send(orjson.loads(event_text("a", "train.accepted"))).taken
    (recorded,) = stub.recorded
    assert recorded.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert recorded.headers["host"] == f"127.0.0.1:{stub.port}"


@pytest.mark.parametrize(
    ("begun", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nx-slow: ", None),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200", None),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 500 No\r\ncontent-length: 99999\r\n\r\n", 500),
    ],
)
def test_an_answer_without_an_end_holds_up_the_next_event_no_longer_than_a_sink_s(
    stub: StubApi, begun: bytes, status: int | None
) -> None:
    """A piece of it every 50 ms: no single one is late."""
    stub.default = Answer(raw=begun, then="trickle")
    with Forwarder(stub.url, SigningKey.new(), lambda _: None, timeout_seconds=0.4) as forwarder:
        begun_at = time.monotonic()
        found = forwarder.send(orjson.loads(event_text("a", "train.accepted")))
    assert found.status == status
    assert found.said == ("" if status else "no answer within 0.4 s")
    assert time.monotonic() - begun_at < 10


async def test_a_redis_that_is_away_is_waited_for(tmp_path: Path, stub: StubApi) -> None:
    with EmbeddedRedis(tmp_path) as server:
        redis, keys = connect(server.url), Keys("away")
        with listening(Console(server.url, "away"), "--forward-to", stub.url) as listen:
            await add(redis, keys, "before", "train.accepted")
            listen.until_lines(1)
            server.stop()
            server.start()
            await redis.connection_pool.disconnect()
            await add(redis, keys, "after", "train.accepted")
            listen.until_lines(2)
        await redis.aclose()
    assert [line["subject"] for line in listen.lines] == ["before", "after"]


async def test_people_see_a_line_for_each_event(
    console: Console, redis: Redis, keys: Keys, stub: StubApi
) -> None:
    process = console.start("listen", "--forward-to", stub.url)
    assert process.stdout is not None
    ready = [process.stdout.readline() for _ in range(2)]
    assert stub.url in ready[0]
    assert ready[1].startswith("whsec_")
    await add(redis, keys, "night", "train.failed")
    wait_until(lambda: bool(stub.recorded), "the event")
    line = process.stdout.readline()
    said = finish(process, signal.SIGINT)
    assert said.code == 0
    assert "train.failed  night" in line
    assert "→ 200 (" in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--forward-to", "ftp://x"], "no URL"),
        (["--forward-to", "http://"], "no URL"),
        (["--forward-to", "http://a b/"], "no URL"),
        (["--forward-to", "http://u:hidden@x:99999999/"], "no URL"),
        (["--forward-to", "1", "--type", "trian"], "'train'"),
        (["--forward-to", "1", "--secret", "whsec_hidden!"], "base64"),
        ([], "--forward-to"),
    ],
)
def test_wrong_options_are_told_without_what_they_hide(
    console: Console, options: list[str], said: str
) -> None:
    found = console.run("listen", *options)
    assert found.code == 2
    assert said in found.err
    assert "hidden" not in found.err


def trigger(console: Console, *arguments: str) -> Said:
    return console.run("trigger", *arguments)


async def test_a_made_up_event_goes_to_the_url_and_never_to_redis(
    console: Console, redis: Redis, keys: Keys, stub: StubApi
) -> None:
    secret = SigningKey.new().reveal()
    sent = trigger(
        console, "train.succeeded", "--forward-to", stub.url, "--secret", secret, "subject=night-7",
        "data.result.iteration.epochs=3", "correlationid=mine",
    )  # fmt: skip
    assert sent.code == 0, sent.err
    assert "train.succeeded  night-7" in sent.out
    (event,) = received(stub, secret)
    assert (event["type"], event["subject"], event["correlationid"]) == (
        "train.succeeded",
        "night-7",
        "mine",
    )
    assert event["data"]["result"]["iteration"]["epochs"] == 3
    assert event["data"]["result"]["iteration"]["batch_size"] == 8, "the rest is the example's"
    assert event["example"] is True
    assert not [key async for key in redis.scan_iter(match=f"{keys.prefix}*".replace("{", "?"))]


def test_an_answer_that_no_sink_takes_is_a_failure(console: Console, stub: StubApi) -> None:
    secret = SigningKey.new().reveal()
    options = ("--forward-to", stub.url, "--secret", secret, "--json")
    stub.answers.extend([reply(302, location="/elsewhere"), reply(500)])
    for status in (302, 500):
        found = trigger(console, "train.failed", *options)
        assert (found.code, found.lines[0]["status"]) == (1, status)
    assert len(stub.recorded) == 2, (
        "a redirect is not followed, and what was answered is not sent again"
    )


def test_without_a_url_the_event_is_printed_alone(console: Console) -> None:
    shown = trigger(console, "attach.accepted")
    assert orjson.loads(shown.out)["type"] == "attach.accepted"
    assert shown.out.count("\n") > 3
    assert len(trigger(console, "attach.accepted", "--json").lines) == 1
    listed = trigger(console, "--list").out.split()
    assert listed == event_types()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--list"),
        (["train.succeded"], "'train.succeeded'"),
        (["train"], "event type"),
        (["train.failed", "data"], "key=value"),
        (["train.failed", "--forward-to", "1"], "TRAINMASTER_LISTEN_SECRET"),
    ],
)
def test_what_cannot_be_triggered_is_wrong_usage(
    console: Console, arguments: list[str], said: str
) -> None:
    found = trigger(console, *arguments)
    assert found.code == 2
    assert said in found.err


@pytest.mark.parametrize("wanted", ["trian.*", "*.done", "train.done", "done"])
def test_types_that_never_come_are_wrong_usage(console: Console, wanted: str) -> None:
    found = console.run("listen", "--forward-to", "1", "--type", wanted)
    assert found.code == 2
    assert repr(wanted) in found.err


def test_on_a_terminal_the_answer_has_its_colour(console: Console, stub: StubApi) -> None:
    secret = SigningKey.new().reveal()
    options = ("--forward-to", stub.url, "--secret", secret)
    shown = run_on_terminal(console, "trigger", "train.accepted", *options)
    assert shown.code == 0
    assert "→ 200" in shown.out


async def test_the_events_of_a_gateway_are_followed_over_its_restarts(
    console: Console, redis: Redis, keys: Keys, stub: StubApi, tmp_path: Path
) -> None:
    _, secret = await Tokens(redis, keys).create("home", [Scope.READ])
    with running_gateway(console, tmp_path / "gateway.log") as gateway:
        home = Console("redis://127.0.0.1:1", "none", TRAINMASTER_TOKEN=secret)
        options = ("--forward-to", stub.url, "--url", gateway.url, "--type", "train")
        with listening(home, *options) as listen:
            # A character at which others end a line.
            await add(redis, keys, "first", "train.accepted", correlationid="a\u2028b")
            await add(redis, keys, "unasked", "attach.accepted")
            listen.until_lines(1)
            gateway.kill()
            await add(redis, keys, "meanwhile", "train.failed")
            gateway.start()
            listen.until_lines(2)
            await add(redis, keys, "after", "train.accepted")
            listen.until_lines(3)
        events = received(stub, listen.secret)
        assert [event["subject"] for event in events] == ["first", "meanwhile", "after"]
        assert events[0]["correlationid"] == "a\u2028b"
        for token, said in (("", "TRAINMASTER_TOKEN"), (f"{secret}x", "TRAINMASTER_TOKEN")):
            refused = home.run("listen", *options, environment={"TRAINMASTER_TOKEN": token})
            assert refused.code == 1
            assert said in refused.err
            assert secret not in refused.err


def test_a_url_without_a_gateway_ends_it(console: Console, stub: StubApi) -> None:
    stub.answers.extend([reply(404), reply(200), reply(302, location="/")])
    for _ in range(3):
        found = console.run("listen", "--forward-to", "1", "--url", stub.url)
        assert found.code == 1
        assert "no gateway" in found.err
