"""The attributes of spans, as the semantic conventions name them, and ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from worker.queue.telemetry import SentCommand

Attributes = dict[str, str | int | float | bool]

SYSTEM: Final = "trainmaster"
OPERATION: Final = "messaging.operation.name"
MESSAGE_ID: Final = "messaging.message.id"
BATCH_COUNT: Final = "messaging.batch.message_count"
CONSUMER_GROUP: Final = "messaging.consumer.group.name"
ERROR_TYPE: Final = "error.type"

COMMAND_TYPE: Final = "trainmaster.command.type"
LANE: Final = "trainmaster.lane"
GROUP: Final = "trainmaster.backfill"
ATTEMPT: Final = "trainmaster.attempt"
CLAIMS: Final = "trainmaster.claims"
OUTCOME: Final = "trainmaster.outcome"
DELAY_SECONDS: Final = "trainmaster.delay_seconds"
WAITS_FOR: Final = "trainmaster.waits_for"
TURN_SECONDS: Final = "trainmaster.turn_seconds"


def operation(name: str, destination: str) -> Attributes:
    """Returns the attributes of an operation on a destination; its name is its type too."""
    return {
        "messaging.system": SYSTEM,
        OPERATION: name,
        "messaging.operation.type": name,
        "messaging.destination.name": destination,
    }


def messaging(name: str, destination: str, sent: SentCommand) -> Attributes:
    """Returns the attributes of an operation on one command."""
    found = operation(name, destination)
    found[MESSAGE_ID] = sent.command_id
    found[COMMAND_TYPE] = sent.command_type
    found[LANE] = str(sent.lane)
    correlation = sent.context.get("correlationid")
    if isinstance(correlation, str):
        found["messaging.message.conversation_id"] = correlation
    if sent.group:
        found[GROUP] = sent.group
    return found
