"""Commands about other commands: what each takes, gives back and looks like."""

from __future__ import annotations

from typing import Any, Literal, Self, TypeAlias
from uuid import UUID

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from schemas.declaration import DeclaredCommand
from schemas.examples import TRAINING_UUID
from schemas.parameters import CommandData, Name


class CancelData(CommandData):
    """Parameters of `cancel`."""

    command_id: Name = Field(description="The id of the command that is to end.")


class CancelResult(BaseModel):
    """Result of `cancel`: whether the command is cancelled now, and where it stands."""

    cancelled: bool = Field(
        description="Also true of one that was cancelled before, and of a backfill that winds down."
    )
    state: str = Field(
        description="`cancelled`, `cancelling` for a backfill that writes down what has ended, or "
        "`succeeded` or `failed` where the command had ended before."
    )


class Cancel(DeclaredCommand):
    """Ends another command that has not ended; the result tells whether it did."""

    type: Literal["cancel"]
    data: CancelData
    result = CancelResult
    example = {"type": "cancel", "data": {"command_id": "train-street-7"}}

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return f"{'' if result['cancelled'] else 'not '}cancelled"


class ResolveData(CommandData):
    """Parameters of `resolve`."""

    command_id: Name = Field(description="The id of the command that is in doubt.")
    created: UUID | None = Field(
        default=None, description="What its lost call created, by its uuid."
    )
    not_created: bool | None = Field(
        default=None, description="`true` where the lost call created nothing: it is sent again."
    )
    by: Name | None = Field(
        default=None, description="Who says so; the id of this command without it."
    )

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.created is None) == (not self.not_created):
            message = "must have either created, or not_created as true"
            raise PydanticCustomError("exactly_one", message)
        return self


class ResolveResult(BaseModel):
    """Result of `resolve`: whether the command was in doubt, and where it stood."""

    resolved: bool
    state: str


class Resolve(DeclaredCommand):
    """Says what became of a call that left a command in doubt; it goes on accordingly."""

    type: Literal["resolve"]
    data: ResolveData
    result = ResolveResult
    example = {
        "type": "resolve",
        "data": {"command_id": "train-street-7", "created": TRAINING_UUID, "by": "on call"},
    }

    @staticmethod
    def summary(result: dict[str, Any]) -> str:
        """Returns the result in a few words."""
        return f"{'' if result['resolved'] else 'not '}resolved"


ControlCommand: TypeAlias = Cancel | Resolve
