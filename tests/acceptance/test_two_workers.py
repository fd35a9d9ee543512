"""Two workers, 500 commands of all types, each sent twice by one way or another."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from jsonschema import Draft202012Validator

import schemas.documents
from schemas.commands import COMMAND_CLASSES
from tests.acceptance.mix import BACKFILL_ITEMS, KINDS, SCALE_ONE, World, mixed
from tests.acceptance.senders import Senders
from tests.faults.audit import ENDS, Audit, repeated_ids, state
from tests.faults.fleet import PATIENT, Fleet, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCALE = 5
COMMANDS = 500
SEED = 20
PATIENCE_SECONDS = 300
SCHEMA = Path(schemas.documents.__file__).parent / "generated" / "events.schema.json"
# Nobody dies here, so that a busy machine must not look like a dead worker either.
SETTINGS = {
    **PATIENT,
    "TRAINMASTER_LEASE_SECONDS": "30",
    "TRAINMASTER_CONSUMER_IDLE_SECONDS": "30",
}
# A creation looks first at what is there already, so that it can tell its own from it later.
CREATIONS = {
    "create_model": "create_model",
    "train": "create_training_job",
    "attach": "create_model_attachment",
}


class Outcome:
    """What became of the commands, read once by all tests."""

    def __init__(self, fleet: Fleet, audit: Audit, world: World, seconds: float) -> None:
        self.audit = audit
        self.world = world
        self.seconds = seconds
        self.truth: dict[str, Any] = fleet.sandbox.truth()
        self.leaks = fleet.leaks()
        self.alive = [worker.alive for worker in fleet.workers]
        self.starts = [worker.starts for worker in fleet.workers]
        self.dead_letters = audit.dead_letters()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for events in self.audit.events.values() for event in events]

    def ends(self, prefix: str) -> list[dict[str, Any]]:
        return [
            end
            for command_id in self.audit.events
            if command_id.startswith(prefix)
            for end in self.audit.ends(command_id)
        ]

    def calls(self, operation: str) -> int:
        return int(self.truth["calls"].get(operation, {}).get("total", 0))


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outcome]:
    rng = random.Random(SEED)
    folder = tmp_path_factory.mktemp("two-workers")
    manifests = folder / "manifests"
    manifests.mkdir()
    settings = {**SETTINGS, "TRAINMASTER_DATA_ROOTS": str(manifests)}
    with Fleet(folder, 2, settings) as fleet:
        world = World.prepare(fleet.sandbox, SCALE, manifests)
        work = mixed(world, SCALE)
        fleet.wait_ready()
        fleet.sandbox.reset_truth()
        texts = list(work.texts.values()) * 2
        rng.shuffle(texts)
        begun = time.monotonic()
        audit = Audit(fleet)
        with Senders(fleet.client, fleet.redis.url) as senders:
            senders.send(texts, rng)
            sent = time.monotonic() - begun

            def all_ended() -> bool:
                audit.update()
                return audit.ended() >= COMMANDS

            wait_until(all_ended, PATIENCE_SECONDS, "every command has ended")
            took = time.monotonic() - begun
            wait_until(lambda: _nothing_waits(fleet), PATIENCE_SECONDS, "every copy was read")
            audit.update()
            outcome = Outcome(fleet, audit, world, took)
            print(  # noqa: T201 - figures for whoever runs this
                f"\n{COMMANDS} commands sent twice ({senders.sent}) in {sent:.1f} s, "
                f"ended after {took:.1f} s; calls of the API: {outcome.truth['total']}; "
                f"events: {len(outcome.events)}; API: "
                f"{ {name: told['total'] for name, told in outcome.truth['calls'].items()} }"
            )
        yield outcome


def _nothing_waits(fleet: Fleet) -> bool:
    """Whether every copy was read and judged, whichever way it came."""
    lists = sum(
        fleet.client.llen(f"{{trainmaster}}:{name}")
        for name in ("inbox", "inbox:processing", "celery", "celery:processing")
    )
    (group,) = fleet.client.xinfo_groups("{trainmaster}:commands")
    # Not the group's lag, which Redis guesses once entries are deleted: what was judged is deleted.
    unread = fleet.client.xlen("{trainmaster}:commands")
    return not (lists or unread or group["pending"])


def expected_ends() -> Mapping[str, str]:
    return {
        f"{kind.type}-{kind.end}-{number}": kind.end
        for kind in KINDS
        for number in range(kind.share * SCALE)
    }


def test_the_mix_holds_every_command_type_and_makes_500_commands() -> None:
    assert {kind.type for kind in KINDS} == set(COMMAND_CLASSES)
    assert SCALE * SCALE_ONE == len(expected_ends()) == COMMANDS


def test_every_command_has_exactly_one_terminal_event_and_the_right_one(outcome: Outcome) -> None:
    ends = {
        command_id: [state(end) for end in outcome.audit.ends(command_id)]
        for command_id in outcome.audit.events
    }
    assert ends == {command_id: [end] for command_id, end in expected_ends().items()}
    assert outcome.audit.rejected == []


def test_every_command_is_accepted_once_first_and_nothing_follows_its_end(
    outcome: Outcome,
) -> None:
    for command_id, events in outcome.audit.events.items():
        states = [state(event) for event in events]
        assert states[0] == "accepted", command_id
        assert states[-1] in ENDS, command_id
        between = ["started"] if command_id.startswith("train-succeeded") else []
        told = [each for each in states[1:-1] if each != "progressed"]
        assert told == between, command_id
        assert len(told) == len(states) - 2 or command_id.startswith("backfill-"), command_id


def test_every_event_fits_the_published_schema_and_no_two_share_an_id(outcome: Outcome) -> None:
    validator = Draft202012Validator(orjson.loads(SCHEMA.read_bytes()))
    for event in outcome.events:
        validator.validate(event)
    assert repeated_ids(outcome.events) == 0


def test_nothing_is_created_twice_though_every_command_came_twice(outcome: Outcome) -> None:
    created = outcome.truth["created"]
    titles = Counter(model["title"] for model in created["models"])
    assert [titles[f"made {number}"] for number in range(10 * SCALE)] == [1] * 10 * SCALE
    spare = set(outcome.world.spare_models)
    trained = Counter(
        (each["model_uuid"], each["epochs"])
        for each in created["trainings"]
        if each["model_uuid"] in spare
    )
    assert len(trained) == 5 * SCALE
    assert set(trained.values()) == {1}
    attached = Counter(each["model_uuid"] for each in created["attachments"])
    assert set(attached.values()) == {1}
    prepared = 1 + len(outcome.world.spare_attachments)
    assert len(attached) == prepared + 4 * SCALE


def test_the_api_is_called_about_once_for_each_command(outcome: Outcome) -> None:
    by_type = Counter[str]()
    for kind in KINDS:
        by_type[kind.type] += kind.share * SCALE
    for command_type, operation in CREATIONS.items():
        assert outcome.calls(operation) == by_type[command_type]
    predictions = sum(
        outcome.calls(f"predict_{task}")
        for task in ("classification", "object_detection", "instance_segmentation")
    )
    items = by_type["backfill"] * BACKFILL_ITEMS
    assert predictions == by_type["predict"] + items
    for operation in ("update_model", "delete_model", "delete_training_iteration"):
        assert outcome.calls(operation) == by_type[operation]
    looks_before_creating = sum(by_type[command_type] for command_type in CREATIONS)
    looks_at_trainings = outcome.calls("get_training_status")
    lists = by_type["list_attachments"] + by_type["attach"]
    further_pages = outcome.calls("list_model_attachments") - lists
    assert looks_at_trainings <= 2 * (by_type["train"] + by_type["watch_training"])
    assert (
        outcome.truth["total"] - looks_before_creating - looks_at_trainings - further_pages
        <= COMMANDS + items
    )


def test_each_backfill_tells_all_its_items_once(outcome: Outcome) -> None:
    found = [end for end in outcome.ends("backfill-") if state(end) == "succeeded"]
    assert len(found) == SCALE
    for end in found:
        result = end["data"]["result"]
        assert (result["succeeded"], result["failed"]) == (BACKFILL_ITEMS, 0)
        parts = sorted(Path(result["output"], "parts").iterdir())
        lines = [line for part in parts for line in part.read_bytes().splitlines()]
        assert sorted(orjson.loads(line)["item"] for line in lines) == list(range(BACKFILL_ITEMS))


def test_what_failed_lies_in_the_dead_letters_once(outcome: Outcome) -> None:
    failed = [command_id for command_id, end in expected_ends().items() if end == "failed"]
    assert sorted(letter["id"] for letter in outcome.dead_letters) == sorted(failed)


def test_both_workers_live_on_and_no_secret_stands_anywhere(outcome: Outcome) -> None:
    assert outcome.alive == [True, True]
    assert outcome.starts == [1, 1]
    assert outcome.leaks == []
