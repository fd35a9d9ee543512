"""What the gateway answers, as its OpenAPI document tells it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, Field

from schemas.attributes import CommandId, Timestamp
from worker.gateway.problems import ProblemDetails


def moment(milliseconds: int | None) -> datetime | None:
    """Returns a time as it is answered, None for none."""
    return None if not milliseconds else datetime.fromtimestamp(milliseconds / 1000, UTC)


class Accepted(BaseModel):
    """A command that Redis has acknowledged."""

    id: str = Field(description="Names the command in every event and address.")
    status: int = Field(202, description="202: it is in its stream.")
    location: str = Field(description="Where its state is read.")
    duplicate: bool = Field(
        False, description="Whether the same command was sent under this id before."
    )


class Refused(BaseModel):
    """A command that was not taken."""

    id: str | None = None
    status: int
    problem: ProblemDetails


class BatchAnswer(BaseModel):
    """What became of each command of a request, in their order."""

    accepted: int
    refused: int
    items: list[Accepted | Refused]


class CommandView(BaseModel):
    """A command and how far it has come."""

    id: str
    type: str | None = Field(description="None until a worker has read it.")
    state: str = Field(
        description="`submitted` until a worker has read it, then as in the events; "
        "`running` and `polling` while something is under way."
    )
    lane: str | None
    attempts: int
    accepted_at: datetime | None
    due_at: datetime | None = Field(description="When somebody looks at it again.")
    ended_at: datetime | None
    error: dict[str, Any] | None = Field(
        description="Of its end; while it runs, of its last attempt."
    )
    result: Any = Field(description="Of a command that succeeded, while its event is kept.")
    dataref: str | None = Field(description="Where a result lies that is too large for an event.")
    progress: dict[str, Any] | None
    resolution: dict[str, Any] | None = Field(
        description="Who settled a doubt, and how, where a person did."
    )


class CommandRow(BaseModel):
    """A command in a list."""

    id: str
    type: str
    state: str = Field(description="Of its last event.")
    correlationid: str | None
    attempts: int = Field(description="That failed, or brought the end.")
    accepted_at: datetime | None
    changed_at: datetime
    error: dict[str, Any] | None


class CommandPage(BaseModel):
    """A page of commands, newest first."""

    items: list[CommandRow]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class Cancelled(BaseModel):
    """What became of a cancellation."""

    id: str
    status: str = Field(
        description="cancelled, cancelling (a backfill that writes what it has), already_ended, "
        "unknown_id or member_of_group."
    )
    state: str | None = Field(description="The command's state before.")
    leaves: dict[str, Any] = Field(description="What goes on at the API all the same.")
    in_doubt: bool = Field(description="Whether a change may be under way that nobody waits for.")


class Resolved(BaseModel):
    """What became of a resolution."""

    id: str
    status: str = Field(description="resolved, not_in_doubt, already_ended or unknown_id.")
    state: str | None


class ResolveBody(BaseModel):
    """What a person found at the API."""

    model_config = {"extra": "forbid"}

    created: str | None = Field(None, description="The uuid of what the lost call created.")
    not_created: bool = Field(False, description="It created nothing; it is sent again, once.")


class BulkBody(BaseModel):
    """Which commands an act is for: those that fit everything that is said."""

    model_config = {"extra": "forbid"}

    state: str | None = Field(None, description="As a command's own.")
    type: str | None = None
    correlationid: str | None = None
    since: Timestamp | None = Field(
        None, description="Accepted at or after this; of dead letters: died."
    )
    until: Timestamp | None = Field(None, description="Accepted, or died, before this.")
    ids: list[CommandId] | None = Field(None, max_length=10_000)
    all: bool = Field(
        False, description="Says that really all are meant where nothing else is said."
    )
    dry_run: bool = Field(True, description="Only counts and names them; say false to act.")

    def filter(self) -> dict[str, Any]:
        """Returns what it says of which are meant."""
        return self.model_dump(exclude={"dry_run"}, exclude_defaults=True)

    @property
    def is_unfiltered(self) -> bool:
        """Whether it says nothing of which are meant."""
        told = (self.state, self.type, self.correlationid, self.since, self.until, self.ids)
        return all(each is None for each in told)


class BulkAnswer(BaseModel):
    """What an act came to, or would."""

    dry_run: bool
    matched: int
    done: int = Field(description="0 in a dry run.")
    outcomes: dict[str, int] = Field(
        description="How many came to what. In a dry run of a cancellation: how many are in which "
        "state; of a replay: what it would come to, `replayed` or the code of a refusal."
    )
    ids: list[str] = Field(description="The first thousand that matched.")
    more: bool = Field(
        False,
        description="Whether others fit too: one act is for ten thousand at most. Send the same "
        "again, with `until`, until this is false.",
    )
    until: datetime | None = Field(
        None,
        description="What came later is not among these. Said in the next request, that is for no "
        "others either: an act after a dry run for those that it counted.",
    )
