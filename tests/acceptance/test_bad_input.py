"""Whatever comes in, by whatever way: one rejection each, and the worker works on."""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from schemas.parsing import InvalidCommandError, parse_command
from tests.acceptance.senders import Senders
from tests.faults.audit import EVENTS, Audit, entries, state
from tests.faults.fleet import PATIENT, Fleet, wait_until
from tests.generated_messages import generated

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = "00000000-0000-4000-8000-000000000000"
GET = {"type": "get_model", "data": {"model_uuid": MISSING}}
GENERATED = 1000
PATIENCE_SECONDS = 120
MIB = 1024 * 1024


def enveloped(message: bytes, task_id: str) -> bytes:
    """Returns the message as the one argument of the task, in the envelope that kombu makes."""
    body = b"[[" + message + b'], {}, {"callbacks": null, "chord": null}]'
    return json.dumps({
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "trainmaster.submit", "id": task_id, "lang": "py"},
        "properties": {"body_encoding": "base64", "delivery_tag": task_id, "priority": 0},
    }).encode()


def changed(**changes: Any) -> bytes:
    return json.dumps({**GET, **changes}).encode()


def data(**changes: Any) -> bytes:
    return changed(data={"model_uuid": MISSING, **changes})


BAD: dict[str, bytes] = {
    "empty": b"",
    "not JSON": b"train the model, please",
    "half of a command": json.dumps(GET).encode()[:-7],
    "two commands in one": json.dumps(GET).encode() * 2,
    "bad UTF-8": b'{"type": "get_model", "data": {"model_uuid": "\xff\xfe"}}',
    "UTF-16": json.dumps(GET).encode("utf-16"),
    "a lone surrogate": b'{"type": "get_model", "id": "\\ud800", "data": {}}',
    "NaN": b'{"type": "list_models", "data": {"query": NaN}}',
    "infinity": b'{"type": "list_models", "data": {"query": -Infinity}}',
    "duplicate keys": b'{"type": "get_model", "type": "delete_model", "data": {}}',
    "duplicate keys in data": b'{"type": "list_models", "data": {"query": "a", "query": "b"}}',
    "100,000 lists deep": b"[" * 100_000 + b"]" * 100_000,
    "100,000 objects deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "2 MB": data(query="x" * 2 * MIB),
    "one byte over 1 MiB": json.dumps(GET).encode() + b" " * (MIB - len(json.dumps(GET)) + 1),
    "a list": json.dumps([GET]).encode(),
    "a string": b'"get_model"',
    "a number": b"42",
    "null": b"null",
    "no type": b'{"data": {}}',
    "unknown type": changed(type="conquer_world"),
    "type of the wrong case": changed(type="GET_MODEL"),
    "type that is no text": changed(type=7),
    "no data": b'{"type": "get_model"}',
    "data that is no object": changed(data=[MISSING]),
    "a missing parameter": changed(data={}),
    "an unknown parameter": data(colour="blue"),
    "a parameter in camelCase": changed(data={"modelUuid": MISSING}),
    "a number for a text": data(model_uuid=5),
    "a text for a number": changed(
        type="watch_training",
        data={"model_uuid": MISSING, "training_uuid": MISSING, "timeout_seconds": "60"},
    ),
    "a number out of range": changed(
        type="watch_training",
        data={"model_uuid": MISSING, "training_uuid": MISSING, "timeout_seconds": 0},
    ),
    "a number beyond 64 bits": changed(
        type="watch_training",
        data={"model_uuid": MISSING, "training_uuid": MISSING, "timeout_seconds": 10**30},
    ),
    "an empty id": changed(id=""),
    "a blank id": changed(id="   "),
    "an id that is too long": changed(id="x" * 256),
    "an id with a line break": changed(id="a\nb"),
    "an id with a control character": changed(id="a\u0007b"),
    "an id that is no text": changed(id=12),
    "an unknown attribute": changed(Colour="blue"),
    "a replyto with odd characters": changed(replyto="../events"),
    "a deadline that is no time": changed(deadline="tomorrow"),
    "a deadline without an offset": changed(deadline="2030-01-01T00:00:00"),
    "an unknown priority": changed(priority="urgent"),
    "no source of the image": changed(
        type="predict",
        data={
            "task": "classification",
            "project_uuid": MISSING,
            "project_model_uuid": MISSING,
            "training_uuid": MISSING,
        },
    ),
    "two sources of the image": changed(
        type="predict",
        data={
            "task": "classification",
            "project_uuid": MISSING,
            "project_model_uuid": MISSING,
            "training_uuid": MISSING,
            "data_uuid": MISSING,
            "data_base64": "QQ==",
        },
    ),
}

# Messages on Celery's queue that no Celery would make; each is one rejection too.
BAD_ENVELOPES: dict[str, bytes] = {
    "no envelope": b"hello",
    "an envelope that is a list": b"[1, 2]",
    "an empty envelope": b"{}",
    "a command without an envelope": json.dumps(GET).encode(),
    "another task": json.dumps({"body": "", "headers": {"task": "shop.sell"}}).encode(),
    "pickle": json.dumps({
        "body": base64.b64encode(b"\x80\x04N.").decode(),
        "content-type": "application/x-python-serialize",
        "headers": {"task": "trainmaster.submit", "id": "1"},
        "properties": {"body_encoding": "base64"},
    }).encode(),
    "a body that is not base64": json.dumps({
        "body": "%%%",
        "content-type": "application/json",
        "headers": {"task": "trainmaster.submit", "id": "2"},
        "properties": {"body_encoding": "base64"},
    }).encode(),
}

# What a Celery app can send that is no command: any JSON but one.
BAD_ARGUMENTS: dict[str, Any] = {
    "a text": "get_model",
    "a list": [GET],
    "nothing": None,
    "a number": 3,
    "an unknown type": {"type": "conquer_world", "data": {}},
    "a missing parameter": {"type": "get_model", "data": {}},
    "a blank id": {**GET, "id": " "},
}


@dataclass
class System:
    """A worker, and what it has judged so far."""

    fleet: Fleet
    audit: Audit
    pid: int
    good: int = 0

    def assert_alive(self) -> None:
        """A good command, sent now, ends as always, in the process that was there at first."""
        self.good += 1
        command_id = f"good-{self.good}"
        text = json.dumps({"id": command_id, "type": "list_models", "data": {}})
        self.fleet.client.xadd("{trainmaster}:commands", {"command": text})

        def ended() -> bool:
            self.audit.update()
            return bool(self.audit.ends(command_id))

        wait_until(ended, PATIENCE_SECONDS, "the good command has ended")
        assert [state(end) for end in self.audit.ends(command_id)] == ["succeeded"]
        (worker,) = self.fleet.workers
        assert worker.alive
        assert (worker.pid, worker.starts) == (self.pid, 1)

    def rejected_after(self, count: int) -> list[dict[str, Any]]:
        """Returns the rejections beyond so many, once no message waits."""
        wait_until(lambda: nothing_waits(self.fleet), PATIENCE_SECONDS, "all was judged")
        self.audit.update()
        return self.audit.rejected[count:]


def nothing_waits(fleet: Fleet) -> bool:
    lists = sum(
        fleet.client.llen(f"{{trainmaster}}:{name}")
        for name in ("inbox", "inbox:processing", "celery", "celery:processing")
    )
    (group,) = fleet.client.xinfo_groups("{trainmaster}:commands")
    # Not the group's lag, which Redis guesses once entries are deleted: what was judged is deleted.
    unread = fleet.client.xlen("{trainmaster}:commands")
    return not (lists or unread or group["pending"])


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    # A thousand commands for models that are not there must not look like a broken deploy.
    settings = {
        **PATIENT,
        "TRAINMASTER_PAUSE_COMMANDS": "1000000",
        "TRAINMASTER_LOG_LEVEL": "DEBUG",
    }
    with Fleet(tmp_path_factory.mktemp("bad-input"), 1, settings) as fleet:
        fleet.wait_ready()
        system = System(fleet, Audit(fleet), fleet.workers[0].pid)
        system.assert_alive()
        yield system
        assert fleet.leaks() == []
        print(  # noqa: T201 - figures for whoever runs this
            f"\nrejected events {len(system.audit.rejected)}, dead letters "
            f"{len(system.audit.dead_letters())}, worker restarts {fleet.workers[0].starts - 1}"
        )


def check_one_rejection_each(system: System, messages: list[bytes], before: int) -> None:
    """Each message has one event, one dead letter, and is told what it was."""
    rejected = system.rejected_after(before)
    told = Counter(event["data"]["raw"] for event in rejected)
    assert told == Counter(message[:4096].decode("utf-8", "replace") for message in messages)
    assert all(event["data"]["error"]["code"] for event in rejected)
    assert len({event["id"] for event in rejected}) == len(messages)
    letters = system.audit.dead_letters()[-len(messages) :]
    texts = [
        base64.b64decode(letter["text_base64"])
        if "text_base64" in letter
        else letter["text"].encode()
        for letter in letters
    ]
    assert Counter(texts) == Counter(messages)
    system.assert_alive()


@pytest.mark.parametrize("way", ["stream", "inbox"])
def test_each_class_of_bad_input_is_rejected_once_and_the_worker_lives_on(
    system: System, way: str
) -> None:
    assert len(BAD) >= 40
    before = len(system.audit.rejected)
    for message in BAD.values():
        if way == "stream":
            system.fleet.client.xadd("{trainmaster}:commands", {"command": message})
        else:
            system.fleet.client.rpush("{trainmaster}:inbox", message)
    check_one_rejection_each(system, list(BAD.values()), before)


def test_what_no_celery_would_send_is_rejected_on_celerys_queue_too(system: System) -> None:
    before = len(system.audit.rejected)
    system.fleet.client.lpush("{trainmaster}:celery", *BAD_ENVELOPES.values())
    check_one_rejection_each(system, list(BAD_ENVELOPES.values()), before)


def test_each_class_of_bad_input_is_rejected_in_celerys_envelope(system: System) -> None:
    before = len(system.audit.rejected)
    letters = len(system.audit.dead_letters())
    # Blanks around an argument are no part of the command, so they don't make it too long.
    bad = [message for name, message in BAD.items() if name != "one byte over 1 MiB"]
    for number, message in enumerate(bad):
        system.fleet.client.lpush("{trainmaster}:celery", enveloped(message, f"bad-{number}"))
    rejected = system.rejected_after(before)
    assert len(rejected) == len({event["id"] for event in rejected}) == len(bad)
    assert len(system.audit.dead_letters()) == letters + len(bad)
    system.assert_alive()


def test_bad_arguments_of_the_celery_task_are_rejected(system: System) -> None:
    before = len(system.audit.rejected)
    with Senders(system.fleet.client, system.fleet.redis.url) as senders:
        for argument in BAD_ARGUMENTS.values():
            senders.send_task(argument)
    rejected = system.rejected_after(before)
    assert len(rejected) == len({event["id"] for event in rejected}) == len(BAD_ARGUMENTS)
    system.assert_alive()


def test_a_stream_entry_without_the_field_is_rejected(system: System) -> None:
    before = len(system.audit.rejected)
    system.fleet.client.xadd("{trainmaster}:commands", {"comand": json.dumps(GET)})
    system.fleet.client.xadd("{trainmaster}:commands", {"a": "1", b"\xff": b"\xff"})
    rejected = system.rejected_after(before)
    assert len(rejected) == 2
    assert "comand" in rejected[0]["data"]["error"]["problems"][0]["message"]
    system.assert_alive()


def test_an_id_used_for_something_else_is_a_conflict(system: System) -> None:
    before = len(system.audit.rejected)
    for number in range(3):
        text = changed(id="good-1", data={"model_uuid": MISSING[:-1] + str(number)})
        system.fleet.client.xadd("{trainmaster}:commands", {"command": text})
    rejected = system.rejected_after(before)
    codes = [event["data"]["error"]["code"] for event in rejected]
    assert codes == ["idempotency_conflict"] * 3
    assert [state(end) for end in system.audit.ends("good-1")] == ["succeeded"]
    system.assert_alive()


def test_each_of_1000_generated_messages_ends_once_by_every_way_in(system: System) -> None:
    messages = generated(GENERATED)
    random.Random(11).shuffle(messages)
    before = len(system.audit.rejected)
    letters_before = len(system.audit.dead_letters())
    accepted_before = len(accepted(system))
    for number, message in enumerate(messages):
        # What shares an id goes the same way, so that it is known who comes first.
        match zlib.crc32(command_id(message) or message) % 3:
            case 0:
                system.fleet.client.rpush("{trainmaster}:inbox", message)
            case 1:
                envelope = enveloped(message, f"task-{number}")
                system.fleet.client.lpush("{trainmaster}:celery", envelope)
            case _:
                system.fleet.client.xadd("{trainmaster}:commands", {"command": message})
    rejected = system.rejected_after(before)
    bad, same = judged(messages)
    assert len(rejected) == len({event["id"] for event in rejected}) == bad

    def all_ended() -> bool:
        system.audit.update()
        return all(system.audit.ends(event["subject"]) for event in accepted(system))

    wait_until(all_ended, PATIENCE_SECONDS, "every accepted command has ended")
    subjects = [event["subject"] for event in accepted(system)[accepted_before:]]
    assert len(subjects) == len(set(subjects)) == GENERATED - bad - same
    ends = [system.audit.ends(subject) for subject in subjects]
    assert all(len(end) == 1 for end in ends)
    failed = sum(state(end) == "failed" for (end,) in ends)
    assert len(system.audit.dead_letters()) == letters_before + bad + failed
    assert len(rejected) > GENERATED / 10 < len(subjects)
    print(  # noqa: T201 - figures for whoever runs this
        f"\n{GENERATED} generated: {bad} rejected, {same} said again what another said, "
        f"{len(subjects)} accepted, {failed} of them failed"
    )
    system.assert_alive()


def accepted(system: System) -> list[dict[str, Any]]:
    """Returns all `accepted` events."""
    found = entries(system.fleet.client, EVENTS)
    events = [orjson.loads(fields[b"event"]) for _, fields in found]
    return [event for event in events if state(event) == "accepted"]


def command_id(message: bytes) -> bytes:
    """Returns the id of a good command that has one, else nothing."""
    try:
        return (parse_command(message).command.id or "").encode()
    except InvalidCommandError:
        return b""


def judged(messages: list[bytes]) -> tuple[int, int]:
    """Returns how many messages are bad, conflicts included, and how many repeat another."""
    fingerprints: dict[str, bytes] = {}
    bad = same = 0
    for message in messages:
        try:
            parsed = parse_command(message)
        except InvalidCommandError:
            bad += 1
            continue
        if parsed.command.id is None:
            continue
        known = fingerprints.setdefault(parsed.command.id, parsed.fingerprint)
        if known is not parsed.fingerprint:
            same += known == parsed.fingerprint
            bad += known != parsed.fingerprint
    return bad, same
