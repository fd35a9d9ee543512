"""The acts of people that are recorded, by name: what each is done to, then what is done."""

from __future__ import annotations

from enum import StrEnum


class Act(StrEnum):
    """An act of a person. Where it names several things, one entry tells of all of them."""

    COMMAND_CANCEL = "command.cancel"
    COMMAND_RESOLVE = "command.resolve"
    COMMAND_REPLAY = "command.replay"
    COMMANDS_CANCEL = "commands.cancel"
    COMMANDS_REPLAY = "commands.replay"
    DEAD_LETTER_REPLAY = "dead_letter.replay"
    DEAD_LETTER_PURGE = "dead_letter.purge"
    DEAD_LETTERS_REPLAY = "dead_letters.replay"
    DEAD_LETTERS_PURGE = "dead_letters.purge"
    HOLDS_RELEASE = "holds.release"
    LANE_RESUME = "lane.resume"
    BACKFILL_PAUSE = "backfill.pause"
    BACKFILL_RESUME = "backfill.resume"
    BACKFILL_CANCEL = "backfill.cancel"
    BACKFILL_RETRY_FAILED = "backfill.retry_failed"
    SINK_PAUSE = "sink.pause"
    SINK_RESUME = "sink.resume"
    SINK_RECOVER = "sink.recover"
    DELIVERY_REPLAY = "delivery.replay"
    TOKEN_CREATE = "token.create"  # noqa: S105 - it is no password
    TOKEN_REVOKE = "token.revoke"  # noqa: S105 - likewise
    LEDGER_ACCEPT_LOSS = "ledger.accept_loss"
