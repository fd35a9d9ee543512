"""`/v1/dead-letters`: what failed or was rejected; sends it again, as it was or changed."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from schemas.attributes import CommandId, ExtensionName, Timestamp
from worker.acts import Act
from worker.gateway.access.callers import Operates, Reads
from worker.gateway.act_route import ActRoute
from worker.gateway.gateway import Gateway, GatewayOf
from worker.gateway.json_bodies import TakesNothing, documented, json_body
from worker.gateway.models import BulkAnswer, moment
from worker.gateway.problems import ProblemDetails, ProblemError, json_response, no_filter
from worker.gateway.requests.text import name_in_address
from worker.gateway.views.dead_letters import (
    MAX_NAMED,
    MOST_AT_A_TIME,
    LetterChoice,
    milliseconds,
    replay_all,
    replay_letter,
    state_of,
)
from worker.queue.ledger.dead_letters import DeadLetter, DeadLetters, is_letter_key
from worker.queue.ledger.replay import PERHAPS_DONE, Edit, Refusal, Replay

if TYPE_CHECKING:
    from worker.gateway.access.callers import Caller

router: Final = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=ActRoute)

MAX_PAGE: Final = 1000
_NOT_ATTRIBUTES: Final = frozenset({"data", "id"})


class LetterRow(BaseModel):
    """A dead letter in a list."""

    key: str = Field(description="Names it.")
    id: str = Field(description="Of its command.")
    type: str = Field(description="`command` where the message tells no type.")
    state: str = Field(description="`failed`, or `rejected` for what was never accepted.")
    reason: str = Field(description="The code of its error.")
    error: dict[str, Any]
    attempts: int
    died_at: datetime | None
    lane: str


class LetterView(LetterRow):
    """A dead letter whole."""

    text: str | None = Field(description="The command as it came; null where it is no UTF-8.")
    text_base64: str | None = Field(description="The same where it is no UTF-8.")
    history: list[dict[str, Any]] = Field(description="Errors of earlier attempts, oldest first.")


class LetterPage(BaseModel):
    """A page of dead letters, newest first."""

    items: list[LetterRow]
    next_cursor: str | None = Field(description="Of the next page, null at the end.")


class LettersQuery(BaseModel):
    """Which dead letters are listed."""

    model_config = {"extra": "forbid"}

    reason: str | None = Field(None, description="The code of the error.")
    type: str | None = Field(None, description="The command's; `command` where it tells none.")
    since: Timestamp | None = Field(None, description="Died at or after this.")
    until: Timestamp | None = Field(None, description="Died before this.")
    limit: int = Field(100, ge=1, le=MAX_PAGE)
    cursor: str | None = Field(None, description="Of the page before.")


class EditBody(BaseModel):
    """Changes to a command before it is sent again; all left out, it goes as it was."""

    model_config = {"extra": "forbid"}

    data: dict[str, Any] | None = Field(None, description="In place of the command's data.")
    merge: dict[str, Any] | None = Field(
        None, description="Put into the data, objects inside each other included."
    )
    attributes: dict[ExtensionName, str | int | bool | None] | None = Field(
        None, description="Attributes of the command; null removes one."
    )

    @property
    def edited(self) -> list[str]:
        """What it changes, by name: what a command holds is told to nobody."""
        parts = {"data": self.data, "merge": self.merge, "attributes": self.attributes}
        return [name for name, part in parts.items() if part is not None]

    def edit(self) -> Edit:
        """Returns the changes.

        Raises:
            ProblemError: they are changes to what has another way.
        """
        attributes = self.attributes or {}
        if wrong := sorted(_NOT_ATTRIBUTES & set(attributes)):
            raise ProblemError(
                422,
                "invalid_parameters",
                f"attributes.{wrong[0]} can't be changed: data have a field of their own, and a "
                "replay gets an id of its own.",
            )
        changes = self.merge or {}
        return Edit(self.data, lambda _: changes, attributes)


class ReplayBody(EditBody):
    """How a dead letter is sent again."""

    dry_run: bool = Field(False, description="Only shows the command that would be sent.")


class LettersBody(BaseModel):
    """Which dead letters an act is for: those that fit everything that is said."""

    model_config = {"extra": "forbid"}

    reason: str | None = Field(None, description="The code of the error.")
    state: Literal["failed", "rejected"] | None = None
    type: str | None = Field(None, description="The command's; `command` where it tells none.")
    correlationid: str | None = None
    since: Timestamp | None = Field(None, description="Died at or after this.")
    until: Timestamp | None = Field(None, description="Died before this.")
    keys: list[CommandId] | None = Field(
        None, max_length=10_000, description="Keys of letters, or ids of their commands."
    )
    all: bool = Field(
        False, description="Says that really all are meant where nothing else is said."
    )
    dry_run: bool = Field(True, description="Only counts and names them; say false to act.")

    def filter(self) -> dict[str, Any]:
        """Returns what it says of which are meant."""
        of_filter = set(LettersBody.model_fields) - {"dry_run"}
        return self.model_dump(include=of_filter, exclude_defaults=True)

    def choice(self) -> LetterChoice:
        """Returns which letters are meant.

        Raises:
            ProblemError: nothing says so.
        """
        choice = LetterChoice(
            reason=self.reason,
            state=self.state,
            command_type=self.type,
            correlation_id=self.correlationid,
            since=self.since,
            until=self.until,
            names=None if self.keys is None else frozenset(self.keys),
        )
        if choice == LetterChoice() and not self.all:
            raise no_filter()
        return choice


class ReplaysBody(LettersBody, EditBody):
    """Which dead letters are sent again, and how."""


class Replayed(BaseModel):
    """What was sent for a dead letter, or would be."""

    key: str
    id: str = Field(description="Of the new command.")
    causationid: str = Field(description="Of the old one.")
    location: str
    sent: bool = Field(description="False in a dry run.")
    command: dict[str, Any]
    deadline_dropped: bool = Field(description="Its deadline had passed.")
    may_be_done: bool = Field(
        description="Its outcome was unknown: what it creates may exist twice now."
    )


def refused_replay(refusal: Refusal) -> ProblemError:
    """Returns the problem of a letter that is not sent again."""
    error = refusal.error
    status = 409 if error.code in PERHAPS_DONE else 422
    return ProblemError(status, error.code, error.message, problems=error.problems or ())


def replayed_response(outcome: Replay, *, sent: bool) -> Response:
    """Returns what tells of a command that was sent for a letter, or would be."""
    location = f"/v1/commands/{quote(outcome.command['id'], safe='')}"
    answer = {
        "key": outcome.letter.key,
        "id": outcome.command["id"],
        "causationid": outcome.letter.command_id,
        "location": location,
        "sent": sent,
        "command": outcome.command,
        "deadline_dropped": outcome.deadline_dropped,
        "may_be_done": outcome.letter.reason in PERHAPS_DONE,
    }
    return json_response(answer, 202, Location=location) if sent else json_response(answer)


async def _read_key(
    key: Annotated[str, Path(description="The letter's key, or its command's id; encoded.")],
) -> str:
    return name_in_address(key)


KeyOf = Annotated[str, Depends(_read_key)]


@router.get("")
async def list_dead_letters(
    gateway: GatewayOf, caller: Reads, query: Annotated[LettersQuery, Query()]
) -> LetterPage:
    """Lists dead letters, newest first."""
    cursor = query.cursor
    if cursor is not None and not is_letter_key(cursor):
        raise ProblemError(422, "invalid_cursor", "The cursor is none of this list.")
    letters = DeadLetters(gateway.redis, gateway.keys).list(
        reason=query.reason,
        command_type=query.type,
        since_ms=milliseconds(query.since),
        before=milliseconds(query.until) if cursor is None else cursor,
        newest_first=True,
    )
    items: list[LetterRow] = []
    async for letter in letters:
        if not caller.sees(letter.type):
            continue
        if len(items) == query.limit:
            return LetterPage(items=items, next_cursor=items[-1].key)
        items.append(LetterRow(**_row(letter)))
    return LetterPage(items=items, next_cursor=None)


@router.get("/{key}", responses={404: {"model": ProblemDetails}})
async def read_dead_letter(key: KeyOf, gateway: GatewayOf, caller: Reads) -> LetterView:
    """Shows a dead letter whole: its error, its history, its original text."""
    letter = await _find(gateway, caller, key)
    try:
        text, packed = letter.text.decode("utf-8"), None
    except UnicodeDecodeError:
        text, packed = None, base64.b64encode(letter.text).decode()
    return LetterView(**_row(letter), text=text, text_base64=packed, history=letter.history)


@router.delete("/{key}", status_code=204, responses={404: {"model": ProblemDetails}})
async def delete_dead_letter(
    key: KeyOf, gateway: GatewayOf, caller: Operates, _: TakesNothing
) -> Response:
    """Deletes a dead letter for good."""
    letter = await _find(gateway, caller, key)
    told: dict[str, Any] = {"key": letter.key, "type": letter.type, "reason": letter.reason}
    async with gateway.recorded(caller, Act.DEAD_LETTER_PURGE, letter.command_id, **told) as entry:
        if await DeadLetters(gateway.redis, gateway.keys).purge([letter.key]):
            entry.done()
    return Response(status_code=204)


@router.post(
    "/{key}/replay",
    status_code=202,
    response_model=Replayed,
    responses={
        200: {"model": Replayed, "description": "A dry run: nothing was sent."},
        404: {"model": ProblemDetails},
    },
    openapi_extra=documented(ReplayBody),
)
async def replay_dead_letter(
    key: KeyOf,
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[ReplayBody, Depends(json_body(ReplayBody))],
) -> Response:
    """Sends a dead letter's command again, as it was or changed, and removes the letter.

    It gets a new id, names the old one in `causationid`, and loses a deadline that has passed.
    Where nobody knows whether a change happened (`outcome_unknown`), look at the API first.
    """
    letter = await _find(gateway, caller, key)
    told: dict[str, Any] = {"key": letter.key, "type": letter.type, "edited": body.edited}
    async with gateway.recorded(
        caller, Act.DEAD_LETTER_REPLAY, letter.command_id, dry_run=body.dry_run, **told
    ) as entry:
        outcome = await replay_letter(
            gateway, caller, letter, body.edit(), may_be_done=True, dry_run=body.dry_run
        )
        if isinstance(outcome, Replay):
            entry.done(new_id=outcome.command["id"])
    if isinstance(outcome, Refusal):
        raise refused_replay(outcome)
    return replayed_response(outcome, sent=not body.dry_run)


@router.post("/replay", openapi_extra=documented(ReplaysBody))
async def replay_dead_letters(
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[ReplaysBody, Depends(json_body(ReplaysBody))],
) -> BulkAnswer:
    """Sends the commands of many dead letters again; a dry run unless `dry_run` is false.

    What would be rejected stays, and so does what may have been done (`outcome_unknown`), unless
    `reason` or `keys` name it.
    """
    choice, edit = body.choice(), body.edit()
    told: dict[str, Any] = {"filter": body.filter(), "edited": body.edited}
    async with gateway.recorded(
        caller, Act.DEAD_LETTERS_REPLAY, dry_run=body.dry_run, **told
    ) as entry:
        return await replay_all(gateway, caller, choice, edit, entry, dry_run=body.dry_run)


@router.post("/purge", openapi_extra=documented(LettersBody))
async def purge_dead_letters(
    gateway: GatewayOf,
    caller: Operates,
    body: Annotated[LettersBody, Depends(json_body(LettersBody))],
) -> BulkAnswer:
    """Deletes many dead letters for good; a dry run unless `dry_run` is false."""
    keys: list[str] = []
    ids: list[str] = []
    more = False
    choice = await body.choice().so_far(gateway)
    async for letter in choice.find(gateway, caller):
        if len(keys) >= MOST_AT_A_TIME:
            more = True
            break
        keys.append(letter.key)
        if len(ids) < MAX_NAMED:
            ids.append(letter.command_id)
    purged = 0
    letters = DeadLetters(gateway.redis, gateway.keys)
    if not body.dry_run:
        told: dict[str, Any] = {"filter": body.filter(), "matched": len(keys)}
        async with gateway.recorded(caller, Act.DEAD_LETTERS_PURGE, **told) as entry:
            for start in range(0, len(keys), MAX_PAGE):
                purged += await letters.purge(keys[start : start + MAX_PAGE])
                entry.done(purged=purged)
            entry.done(purged=purged, more=more)
    outcomes = {"purged": len(keys) if body.dry_run else purged}
    return BulkAnswer(
        dry_run=body.dry_run,
        matched=len(keys),
        done=purged,
        outcomes=outcomes,
        ids=ids,
        more=more,
        until=choice.until,
    )


async def _find(gateway: Gateway, caller: Caller, key: str) -> DeadLetter:
    letter = await DeadLetters(gateway.redis, gateway.keys).get(key)
    if letter is None or not caller.sees(letter.type):
        raise ProblemError(
            404,
            "unknown_dead_letter",
            "No dead letter has this key or id: it was replayed or deleted, or never was.",
        )
    return letter


def _row(letter: DeadLetter) -> dict[str, Any]:
    return {
        "key": letter.key,
        "id": letter.command_id,
        "type": letter.type,
        "state": state_of(letter),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "died_at": moment(letter.at_ms),
        "lane": letter.lane,
    }
